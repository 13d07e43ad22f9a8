//! Every path of the running host that more than one process knows.

/// The boot program; each process runs it under its own `argv[0]`.
pub const BINARY: &str = "/init";
/// The host folder as it is in the image; see [`crate::folder`].
pub const CONFIG: &str = "/keel";
/// One EROFS image per layer, `<hex digest>.erofs`.
pub const LAYERS: &str = "/keel/layers";
/// Modules to load at boot and for hardware: see `image::modules`.
pub const MODULES: &str = "/keel/modules";
/// Run-time state of all of Keelhost; mode 0700.
pub const RUN: &str = "/run/keel";
/// Where layers are mounted, one directory each.
pub const RUN_LAYERS: &str = "/run/keel/layers";
/// An empty directory on which containers stack their mounts, each in its own mount namespace.
pub const RUN_STAGING: &str = "/run/keel/staging";
/// The supervisor's state, one file per unit.
pub const RUN_UNITS: &str = "/run/keel/units";
/// The logger's rings and spools, one directory per unit.
pub const RUN_LOG: &str = "/run/keel/log";
/// Named volumes of a host without a data disk.
pub const RUN_VOLUMES: &str = "/run/keel/volumes";
/// Boot phases and their durations, written by PID 1, JSON.
pub const RUN_BOOT: &str = "/run/keel/boot.json";
/// The supervisor's control socket.
pub const RUN_CONTROL: &str = "/run/keel/control.sock";
/// The resolv.conf that netsetup writes and containers get.
pub const RUN_RESOLV: &str = "/run/keel/net/resolv.conf";
/// The folder of the API's key on a host without a data disk.
pub const RUN_API: &str = "/run/keel/api";
/// The folder of the API's key on the data disk.
pub const DATA_API: &str = "/data/keel-api";
/// Where the data disk is mounted.
pub const DATA: &str = "/data";
/// Label of the data disk's file system.
pub const DATA_LABEL: &str = "KEEL-DATA";
/// Parent of all cgroups of units.
pub const CGROUP_UNITS: &str = "/sys/fs/cgroup/units";
/// Parent of the cgroups of Keelhost's own processes.
pub const CGROUP_SYSTEM: &str = "/sys/fs/cgroup/system";
/// The containers' bridge.
pub const BRIDGE: &str = "keel0";
