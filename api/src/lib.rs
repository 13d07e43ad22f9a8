//! The process that the network talks to: TLS, HTTP and JSON in, small typed questions to the
//! supervisor out. It holds no power. It proves which key asks; whether that key may, the
//! supervisor alone decides.
//!
//! One thread, one event loop. It can be killed at any instant: a client sees its connection break,
//! and commands that it ran in containers are ended by the supervisor. A clock that is wrong, a
//! certificate that has expired or a disk that is broken locks nobody out.
//!
//! | module | concern |
//! |---|---|
//! | [`start`] | the beginning: links, key, socket |
//! | [`key`], [`tls`] | who we are, and who they are |
//! | [`server`], [`connections`], [`watch`] | accepting, limits, patience |
//! | [`router`], [`query`], [`error`], [`body`], [`sse`] | HTTP as the handlers see it |
//! | [`handlers`] | what can be asked, a file for each part |
//! | [`app`], [`link`] | what all connections share; questions to the supervisor and their answers |
//! | [`lines`], [`follow`], [`past`] | reading logs |
//! | [`confine`] | giving up what is not needed |

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
pub mod past;
pub mod pipe;
pub mod query;
pub mod router;
pub mod server;
pub mod sse;
pub mod start;
pub mod tls;
pub mod watch;

pub use key::HostKey;
pub use server::{Config, Limits, ServeError, serve};
pub use start::main;
