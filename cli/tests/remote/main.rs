//! The commands for running hosts, tested with a fake host: requests, output, and exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
#[path = "../../../client/tests/common/fake.rs"]
mod fake;
mod files;
mod home;
mod streams;
mod terminals;
