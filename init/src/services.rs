//! Keelhost's own processes: their users and privileges, and when PID 1 starts them again.

use ipc::Service;

/// User id of `netsetup` (and its group).
pub const NETSETUP_UID: u32 = 101;
/// User id of `logger` (and its group).
pub const LOGGER_UID: u32 = 102;
/// User id of `api` (and its group).
pub const API_UID: u32 = 103;

/// include/uapi/linux/capability.h.
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_TIME: u32 = 25;

/// What a process may do.
pub(crate) enum Privileges {
    /// Root with everything: it mounts, makes namespaces, loads modules.
    Root,
    /// A separate user with these capabilities and no way to gain more.
    User(u32, &'static [u32]),
}

pub(crate) fn privileges(service: Service) -> Privileges {
    match service {
        Service::Supervisor | Service::Devices => Privileges::Root,
        Service::Netsetup => Privileges::User(
            NETSETUP_UID,
            &[CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_TIME],
        ),
        Service::Logger => Privileges::User(LOGGER_UID, &[]),
        Service::Api => Privileges::User(API_UID, &[]),
    }
}

/// The kernel kills other processes before these, but a leak of ours must end before the machine
/// does. The API talks to untrusted clients, and the host can do without it for a while.
pub(crate) fn oom_score_adj(service: Service) -> &'static str {
    if service == Service::Api { "500" } else { "-900" }
}

/// The delay before a process is started again: none for one that ran for a while, then from
/// 100 ms to 1 s, without a limit on the number of attempts. The delay stays short because
/// everything waits for these processes (a crashed container for its restart, a full pipe for its
/// reader) and because starting one is cheap.
///
/// `attempt` counts the starts since the last stable run.
pub fn restart_delay_ms(ran_ms: u64, attempt: u32) -> u64 {
    if ran_ms >= STABLE_MS { 0 } else { (100u64 << attempt.min(4)).min(1_000) }
}

/// A process that ran for this long is stable: its next failure is the first again.
pub(crate) const STABLE_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_keeps_dying_is_restarted_forever_with_a_delay() {
        let delays: Vec<u64> = (0..200).map(|attempt| restart_delay_ms(3, attempt)).collect();
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert!(delays[10..].iter().all(|delay| *delay == 1_000));
        assert_eq!(restart_delay_ms(10_000, 150), 0);
    }
}
