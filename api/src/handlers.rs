//! What can be asked, a file for each part. The OpenAPI document is made of these functions'
//! attributes; [`crate::router`] has the table of all of them.

pub mod bundle;
pub mod events;
pub mod exec;
pub mod files;
pub mod host;
pub mod logs;
pub mod metrics;
pub mod openapi;
pub mod units;
