//! The simulated machine as PID 1 and the supervisor see it: their traits, implemented.

mod calls;
mod files;
pub mod handles;
pub mod init;
mod supervisor;

pub use handles::{SimFd, SimGroup, SimLink, SimUserNs};
pub use init::InitKernel;
pub use supervisor::SupervisorKernel;
