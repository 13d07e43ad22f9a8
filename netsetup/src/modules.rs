//! Kernel modules that somebody else is just loading.
//!
//! The `devices` process loads what networking needs at every boot. Whoever uses a module before it
//! is there makes the kernel start `/sbin/modprobe` for it, which is slower than to wait a moment.

use std::path::Path;

/// What bridging needs.
pub const BRIDGING: &[&str] = &["bridge", "veth"];

/// What the firewall needs; the last to be loaded.
pub const FIREWALL: &[&str] = &["nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_fib_ipv4"];

/// The first of `names` that lies in the image as a module and is not in the kernel yet.
pub fn coming<'a>(names: &[&'a str]) -> Option<&'a str> {
    let in_image =
        |name: &str| Path::new(layout::paths::MODULES).join(format!("{name}.ko")).exists();
    let live = |name: &str| {
        std::fs::read_to_string(format!("/sys/module/{name}/initstate"))
            .is_ok_and(|state| state.trim_end() == "live")
    };
    names.iter().copied().find(|name| in_image(name) && !live(name))
}
