//! A blocking client of the API of running hosts.
//!
//! [`target`] resolves names to hosts and their pinned keys, with the help of `hosts.toml` ([`hosts`]) and
//! `known_hosts` ([`pins`]). [`Client`] sends requests to one host: HTTP/1.1 ([`http`], [`chunked`]) over TLS
//! 1.3 with pinned keys ([`tls`]), and streams of server-sent events ([`sse`]). [`Error`] has a typed code.
//!
//! The library starts no threads and prints nothing. Text from hosts is untrusted; [`sanitize`] makes it safe
//! to print.

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
pub use error::{Code, Error, HostCode, LocalCode};
pub use fingerprint::Fingerprint;
pub use identity::Identity;
pub use target::{Pin, Target};
