//! Running units: the policy's actions, carried out.
//!
//! [`actions`] is the entry; [`plan`] combines a unit and its image, [`runs`] holds what belongs to a
//! unit while the supervisor runs, `progress` handles what happens to a run after its start.

pub mod actions;
pub mod devices;
pub mod network;
pub mod notify;
pub(crate) mod origin;
pub mod plan;
mod progress;
pub mod runs;
