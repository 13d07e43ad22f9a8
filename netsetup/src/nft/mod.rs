//! The firewall: published ports, masquerading, and forwarding through this host.
//!
//! There is one table, `ip keel`, which is replaced as a whole in one transaction: packets see
//! either the old or the new rules, never a mixture, and no cleanup is needed after a crash.
//! Existing connections keep their translation. `rules` is the policy; this file is the
//! transaction.

mod expr;
mod rules;

use nix::errno::Errno;

use crate::attr::AttrWriter;
use crate::netlink::{Batch, Netlink, NetlinkError};
pub use rules::{Chain, Rule, chains};

/// Name of the table.
pub const TABLE: &str = "keel";

/// `NFPROTO_IPV4`. The bridge has only IPv4, and the host forwards nothing else.
const FAMILY: u8 = 2;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// `struct nfgenmsg`: family, version 0, resource id (in network byte order).
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn push(batch: &mut Batch, kind: u16, flags: i32, body: &AttrWriter, what: String) {
    batch.raw(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, body.as_slice(), what);
}

/// `NFTA_TABLE_NAME` 1.
fn table() -> AttrWriter {
    let mut body = AttrWriter::after(&header(FAMILY, 0));
    body.string(1, TABLE);
    body
}

/// `NFTA_CHAIN_TABLE` 1, `_NAME` 3, `_HOOK` 4 (`NFTA_HOOK_HOOKNUM` 1, `_PRIORITY` 2), `_POLICY` 5,
/// `_TYPE` 7.
fn new_chain(chain: &Chain) -> AttrWriter {
    let mut body = AttrWriter::after(&header(FAMILY, 0));
    body.string(1, TABLE).string(3, chain.name);
    body.nest(4, |hook| {
        // The kernel reads the priority as a signed number.
        hook.be32(1, chain.hook).be32(2, chain.priority.cast_unsigned());
    });
    body.be32(5, chain.policy as u32).string(7, chain.kind);
    body
}

/// `NFTA_RULE_TABLE` 1, `_CHAIN` 2, `_EXPRESSIONS` 4.
fn new_rule(chain: &Chain, rule: &Rule) -> AttrWriter {
    let mut body = AttrWriter::after(&header(FAMILY, 0));
    body.string(1, TABLE).string(2, chain.name).nest(4, |list| rule.write(list));
    body
}

/// The transaction that replaces the content of the table by these chains.
pub fn transaction(chains: &[Chain]) -> Batch {
    let create = libc::NLM_F_CREATE;
    let mut batch = Batch::new();
    let edge = AttrWriter::after(&header(libc::AF_UNSPEC as u8, NFNL_SUBSYS_NFTABLES));
    batch.raw(NFNL_MSG_BATCH_BEGIN, 0, edge.as_slice(), "change the firewall");
    // Deleting a table that does not exist is an error, so it is created first.
    push(&mut batch, NFT_MSG_NEWTABLE, create, &table(), "create the firewall table".into());
    push(&mut batch, NFT_MSG_DELTABLE, 0, &table(), "delete the old firewall table".into());
    push(&mut batch, NFT_MSG_NEWTABLE, create, &table(), "create the firewall table".into());
    for chain in chains {
        let what = format!("create the firewall chain {}", chain.name);
        push(&mut batch, NFT_MSG_NEWCHAIN, create, &new_chain(chain), what);
    }
    for chain in chains {
        for rule in &chain.rules {
            let what = format!("add the firewall rule \"{rule}\" to {}", chain.name);
            let flags = create | libc::NLM_F_APPEND;
            push(&mut batch, NFT_MSG_NEWRULE, flags, &new_rule(chain, rule), what);
        }
    }
    // The acknowledgement is requested for the last rule: before Linux 6.10 the kernel sends none
    // for the end of a batch, and all are delivered after the commit (nfnetlink.c).
    batch.acknowledge_last();
    batch.raw(NFNL_MSG_BATCH_END, 0, edge.as_slice(), "commit the firewall");
    batch
}

/// Replaces the firewall by these chains.
///
/// # Errors
/// The request that the kernel refused; the old rules are still in force then. See
/// [`module_missing`].
pub fn replace(netlink: &mut Netlink, chains: &[Chain]) -> Result<(), NetlinkError> {
    netlink.run(transaction(chains), |_, _| {})
}

/// True if the cause may be a kernel module that is not loaded (yet): without /sbin/modprobe the
/// kernel does not load the module that a rule needs, but reports that the feature is unknown.
pub fn module_missing(error: &NetlinkError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)
    )
}
