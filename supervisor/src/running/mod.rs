//! Running units: the policy's actions, carried out.
//!
//! [`actions`] is the entry; [`plan`] makes a container plan of a unit and its image, [`runs`] holds
//! what belongs to a unit while the supervisor lives.

pub mod actions;
pub mod devices;
pub mod network;
pub mod notify;
pub(crate) mod origin;
pub mod plan;
pub mod runs;
