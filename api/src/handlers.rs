//! The handlers of all requests, in one file for each part of the API. The OpenAPI document is derived
//! from these functions' attributes; [`crate::router`] has the table of all of them.

pub mod bundle;
pub mod events;
pub mod exec;
pub mod files;
pub mod host;
pub mod logs;
pub mod metrics;
pub mod openapi;
pub mod units;
