//! A client of the API of running hosts.
//!
//! [`target`] says which hosts are meant and which key each must show, from `hosts.toml` ([`hosts`]) and
//! pinned keys ([`pins`]). [`Client`] speaks to one of them: HTTP/1.1 ([`http`]) on TLS 1.3 with pinned
//! keys ([`tls`]), and streams of events ([`sse`]). Everything blocks, and there are no threads. Nothing is
//! written to the terminal; texts from hosts are untrusted, and [`sanitize`] makes them fit to show.

pub mod address;
pub mod chunked;
pub mod client;
pub mod error;
pub mod fingerprint;
pub mod hosts;
pub mod http;
pub mod identity;
pub mod paths;
pub mod pins;
pub mod sanitize;
pub mod since;
pub mod sse;
pub mod target;
pub mod tls;

pub use address::Address;
pub use client::{Client, Stream};
pub use error::Error;
pub use fingerprint::Fingerprint;
pub use identity::Identity;
pub use target::{Pin, Target};
