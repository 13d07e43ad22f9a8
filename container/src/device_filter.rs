//! Which devices the processes of a cgroup may open: a small BPF program that the kernel runs at
//! each open(2) and mknod(2) of a device node (kernel `Documentation/admin-guide/cgroup-v2.rst`,
//! "Device controller"; `include/uapi/linux/bpf.h`).
//!
//! The first layer of protection is the nodes themselves: a container has only the nodes it was
//! given, and cannot create others without CAP_MKNOD. The filter is the second layer, for nodes
//! that appear in some other way: created with that capability, found in a volume, or reached by a
//! path received over a socket.
//!
//! As in docker, creating any node is allowed: it needs CAP_MKNOD, and containers with that
//! capability unpack root file systems (debootstrap, tar) whose nodes are not meant for the
//! container itself. A node alone does not open the device.

use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The kind of a device node (`BPF_DEVCG_DEV_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum DeviceKind {
    /// A block device.
    Block = 1,
    /// A character device.
    Char = 2,
}

/// Permitted access to a device (`BPF_DEVCG_ACC_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAccess {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
}

impl DeviceAccess {
    /// Reading and writing.
    pub const READ_WRITE: DeviceAccess = DeviceAccess { read: true, write: true };

    fn bits(self) -> i32 {
        (if self.read { READ } else { 0 }) | (if self.write { WRITE } else { 0 })
    }
}

/// Devices that may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceRule {
    /// Block or character.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number; `None`: any.
    pub minor: Option<u32>,
    /// Permitted access.
    pub access: DeviceAccess,
}

impl DeviceRule {
    const fn usual(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule { kind: DeviceKind::Char, major, minor, access: DeviceAccess::READ_WRITE }
    }

    /// The devices of every container: null, zero, full, random, urandom, its terminal, and the
    /// terminals of its own devpts (`Documentation/admin-guide/devices.txt`).
    pub const USUAL: [DeviceRule; 8] = [
        DeviceRule::usual(1, Some(3)),
        DeviceRule::usual(1, Some(5)),
        DeviceRule::usual(1, Some(7)),
        DeviceRule::usual(1, Some(8)),
        DeviceRule::usual(1, Some(9)),
        DeviceRule::usual(5, Some(0)),
        DeviceRule::usual(5, Some(2)),
        DeviceRule::usual(136, None),
    ];

    /// The rule for the host's device node at `path`; symbolic links are followed.
    ///
    /// # Errors
    /// Those of `stat(2)`; `ENOTBLK`: not a device node.
    pub fn of_node(path: &std::path::Path, access: DeviceAccess) -> Result<DeviceRule, Errno> {
        use nix::sys::stat::{SFlag, major, minor, stat};
        let stat = stat(path)?;
        let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFBLK => DeviceKind::Block,
            SFlag::S_IFCHR => DeviceKind::Char,
            _ => return Err(Errno::ENOTBLK),
        };
        // The kernel's device numbers have 12 and 20 bits.
        let (major, minor) = (major(stat.st_rdev) as u32, minor(stat.st_rdev) as u32);
        Ok(DeviceRule { kind, major, minor: Some(minor), access })
    }
}

/// Why a cgroup has no device filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFilterError {
    /// The kernel rejected the program.
    #[error("load the device filter: {}", .0.desc())]
    Load(Errno),
    /// The program could not be attached. `EPERM`: a cgroup above has an exclusive filter.
    #[error("attach the device filter: {}", .0.desc())]
    Attach(Errno),
}

const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Registers (`BPF_REG_*`); 0 is the return value, 1 points to `struct bpf_cgroup_dev_ctx`.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_LDX | BPF_MEM | BPF_W`: destination = the word at source + offset.
const LOAD: u8 = 0x61;
/// `BPF_ALU | BPF_K` (32 bits) with the operations `BPF_MOV`, `BPF_AND`, `BPF_RSH`.
const SET: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
/// `BPF_ALU | BPF_X | BPF_MOV`.
const COPY: u8 = 0xbc;
/// `BPF_JMP32 | BPF_K | BPF_JNE`: skips `offset` instructions unless equal.
const UNLESS_EQUAL: u8 = 0x56;
/// `BPF_JMP | BPF_EXIT`.
const EXIT: u8 = 0x95;

/// `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the lower four bits, source in the upper ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn step(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

/// Assembles the program: it returns 1 if a rule allows the access, otherwise 0.
fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut steps = vec![
        // access_type: the requested access in the upper half, the kind in the lower half.
        step(LOAD, KIND, CONTEXT, 0, 0),
        step(COPY, ACCESS, KIND, 0, 0),
        step(AND, KIND, 0, 0, 0xffff),
        step(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        step(LOAD, MAJOR, CONTEXT, 4, 0),
        step(LOAD, MINOR, CONTEXT, 8, 0),
        // Creating a node without opening it is always allowed.
        step(SET, RESULT, 0, 0, 1),
        step(UNLESS_EQUAL, ACCESS, 0, 1, MKNOD),
        step(EXIT, 0, 0, 0, 0),
    ];
    for rule in rules {
        let mut tests = vec![(KIND, rule.kind as i32), (MAJOR, rule.major as i32)];
        tests.extend(rule.minor.map(|minor| (MINOR, minor as i32)));
        // After the tests: allow if no access beyond the permitted one is requested.
        let length = tests.len() + 5;
        for (at, (register, value)) in tests.into_iter().enumerate() {
            steps.push(step(UNLESS_EQUAL, register, 0, (length - at - 1) as i16, value));
        }
        steps.extend([
            step(COPY, RESULT, ACCESS, 0, 0),
            step(AND, RESULT, 0, 0, !(rule.access.bits() | MKNOD)),
            step(UNLESS_EQUAL, RESULT, 0, 2, 0),
            step(SET, RESULT, 0, 0, 1),
            step(EXIT, 0, 0, 0, 0),
        ]);
    }
    steps.extend([step(SET, RESULT, 0, 0, 0), step(EXIT, 0, 0, 0, 0)]);
    steps
}

/// Commands and constants of bpf(2).
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;

/// A loaded program; it can be attached to any number of cgroups.
#[derive(Debug)]
pub struct DeviceFilter(OwnedFd);

impl DeviceFilter {
    /// Loads a program that allows exactly these devices to be opened.
    ///
    /// # Errors
    /// Those of `bpf(2)`. `EPERM`: neither CAP_BPF nor CAP_SYS_ADMIN; `EINVAL` or `ENOSYS`: the
    /// kernel does not support such programs.
    pub fn load(rules: &[DeviceRule]) -> Result<DeviceFilter, DeviceFilterError> {
        /// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
        #[repr(C)]
        struct Attributes {
            prog_type: u32,
            instruction_count: u32,
            instructions: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log_buf: u64,
            kern_version: u32,
            prog_flags: u32,
            prog_name: [u8; 16],
        }
        let steps = assemble(rules);
        let attributes = Attributes {
            prog_type: PROG_TYPE_CGROUP_DEVICE,
            instruction_count: steps.len() as u32,
            instructions: steps.as_ptr() as u64,
            // It calls no function that requires a particular license.
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
            prog_name: *b"keel_devices\0\0\0\0",
        };
        // SAFETY: the structure, the instructions and the text outlive the call; the kernel copies
        // them.
        unsafe { bpf(PROG_LOAD, &attributes) }
            // SAFETY: the kernel has just created this descriptor for this call. It is
            // close-on-exec.
            .map(|fd| DeviceFilter(unsafe { OwnedFd::from_raw_fd(fd) }))
            .map_err(DeviceFilterError::Load)
    }

    /// Attaches the filter to a cgroup and everything below it, replacing the previous one. It
    /// stays as long as the cgroup exists. It is exclusive: no cgroup below can have a filter of
    /// its own.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub fn attach(&self, cgroup: impl AsFd) -> Result<(), DeviceFilterError> {
        /// The beginning of `union bpf_attr` for `BPF_PROG_ATTACH`.
        #[repr(C)]
        struct Attributes {
            target: i32,
            program: i32,
            attach_type: u32,
            /// 0: exclusive, and therefore replaced by the next one.
            flags: u32,
        }
        let attributes = Attributes {
            target: cgroup.as_fd().as_raw_fd(),
            program: self.0.as_raw_fd(),
            attach_type: ATTACH_TYPE_CGROUP_DEVICE,
            flags: 0,
        };
        // SAFETY: the structure outlives the call and contains no pointers.
        unsafe { bpf(PROG_ATTACH, &attributes) }.map(drop).map_err(DeviceFilterError::Attach)
    }
}

/// # Safety
/// `attributes` must be the structure that `command` expects, and its pointers must be valid.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<i32, Errno> {
    loop {
        let pointer: *const T = attributes;
        // SAFETY: guaranteed by the caller.
        let done = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
        match Errno::result(done) {
            // A signal interrupted the verifier.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            done => return done.map(|fd| fd as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Interprets the program as the kernel does, for the instructions used here.
    fn run(program: &[Instruction], context: [u32; 3]) -> u32 {
        let mut registers = [0xdead_beefu32; 11];
        let mut at = 0;
        loop {
            let Instruction { code, registers: both, offset, immediate } = program[at];
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            at += 1;
            match code {
                LOAD => {
                    assert_eq!(from, usize::from(CONTEXT));
                    registers[to] = context[usize::try_from(offset).unwrap() / 4];
                }
                SET => registers[to] = immediate as u32,
                AND => registers[to] &= immediate as u32,
                SHIFT_RIGHT => registers[to] >>= immediate,
                COPY => registers[to] = registers[from],
                UNLESS_EQUAL if registers[to] != immediate as u32 => {
                    at += usize::try_from(offset).unwrap();
                }
                UNLESS_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// The expected result, computed from the rules.
    fn expected(rules: &[DeviceRule], access: i32, kind: i32, major: u32, minor: u32) -> bool {
        access == MKNOD
            || rules.iter().any(|rule| {
                rule.kind as i32 == kind
                    && rule.major == major
                    && rule.minor.is_none_or(|only| only == minor)
                    && access & !(rule.access.bits() | MKNOD) == 0
            })
    }

    fn rule() -> impl Strategy<Value = DeviceRule> {
        let number = || prop_oneof![0u32..4, any::<u32>(), Just(u32::MAX)];
        (any::<bool>(), number(), prop::option::of(number()), any::<(bool, bool)>()).prop_map(
            |(block, major, minor, (read, write))| DeviceRule {
                kind: if block { DeviceKind::Block } else { DeviceKind::Char },
                major,
                minor,
                access: DeviceAccess { read, write },
            },
        )
    }

    proptest! {
        #[test]
        fn the_program_agrees_with_the_rules(
            rules in prop::collection::vec(rule(), 0..12),
            other in (any::<u32>(), any::<u32>()),
        ) {
            let program = assemble(&rules);
            prop_assert!(program.len() <= 4096);
            let named = rules.iter().map(|rule| (rule.major, rule.minor.unwrap_or(other.1)));
            for (major, minor) in named.chain([other, (0, 0), (u32::MAX, 0)]) {
                for (kind, access) in (0..4).flat_map(|kind| (0..8).map(move |a| (kind, a))) {
                    let context = [(access << 16 | kind) as u32, major, minor];
                    let expected = expected(&rules, access, kind, major, minor);
                    prop_assert_eq!(run(&program, context), u32::from(expected));
                }
            }
        }
    }

    #[test]
    fn a_rule_has_the_numbers_of_the_hosts_node() {
        let rule = DeviceRule::of_node("/dev/null".as_ref(), DeviceAccess::READ_WRITE);
        assert_eq!(rule, Ok(DeviceRule::USUAL[0]));
        let of = |path: &str| DeviceRule::of_node(path.as_ref(), DeviceAccess::READ_WRITE);
        assert_eq!((of("/etc/passwd"), of("/nope")), (Err(Errno::ENOTBLK), Err(Errno::ENOENT)));
    }
}
