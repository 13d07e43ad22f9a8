//! The decoders of `keel`, which is a program and not a library: its source files are included here.

#[path = "../../cli/src/remote/address.rs"]
pub mod address;
#[path = "../../cli/src/remote/chunked.rs"]
pub mod chunked;
#[path = "../../cli/src/remote/error.rs"]
pub mod error;
#[path = "../../cli/src/remote/fingerprint.rs"]
pub mod fingerprint;
#[path = "../../cli/src/remote/hosts.rs"]
pub mod hosts;
#[path = "../../cli/src/remote/http.rs"]
pub mod http;
#[path = "../../cli/src/remote/show.rs"]
pub mod show;
#[path = "../../cli/src/remote/since.rs"]
pub mod since;
#[path = "../../cli/src/remote/sse.rs"]
pub mod sse;
