//! The process that serves the network: TLS, HTTP and JSON on one side, typed requests to the
//! supervisor on the other. It has no privileges. It proves which key a client holds; the supervisor
//! alone decides what that key may do.
//!
//! One thread, one event loop. It can be killed at any instant: clients see their connections break,
//! and the supervisor kills commands that they ran in containers. A wrong clock, an expired certificate
//! or a broken disk locks no client out.
//!
//! | module | concern |
//! |---|---|
//! | [`start`] | start-up: links, key, socket |
//! | [`key`], [`tls`] | the host's key, the clients' keys |
//! | [`server`], [`connections`], [`watch`] | connections, limits, time-outs |
//! | [`router`], [`query`], [`response`], [`error`], [`body`], [`sse`] | HTTP as the handlers see it |
//! | [`handlers`] | the requests, a file for each part |
//! | [`app`], [`link`] | what all connections share; requests to the supervisor and their answers |
//! | [`lines`], [`follow`], [`log_files`] | reading logs |
//! | [`confine`] | dropping privileges |

pub mod app;
pub mod body;
pub mod confine;
pub mod connections;
pub mod error;
pub mod follow;
pub mod handlers;
pub mod key;
pub mod lines;
pub mod link;
pub mod listen;
pub mod log_files;
pub mod pipe;
pub mod query;
pub mod response;
pub mod router;
pub mod server;
pub mod sse;
pub mod start;
pub mod tls;
pub mod watch;

pub use key::HostKey;
pub use server::{Config, Limits, ServeError, serve};
pub use start::main;
