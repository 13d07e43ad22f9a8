//! The commands for running hosts, against a host that is made up: what is asked, what is shown, and
//! with which exit code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
mod fake;
mod files;
mod streams;
mod terminals;
