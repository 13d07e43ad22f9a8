//! The scripted peers of the real PID 1 and the real supervisor: containers, netsetup, logger, devices,
//! people.

pub mod container;
pub mod people;
mod services;

pub use services::Actor;
