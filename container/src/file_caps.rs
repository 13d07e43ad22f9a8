//! Capabilities that a file has for those who execute it (capabilities(7), "File capabilities").

use crate::caps::CapSet;
use std::ffi::CStr;

/// The extended attribute that holds them.
const NAME: &CStr = c"security.capability";
/// The largest form of its value (linux/capability.h, `XATTR_CAPS_SZ`).
const LARGEST: usize = 24;
/// `VFS_CAP_REVISION_MASK`: where the first word says which form it is.
const REVISION: u32 = 0xff00_0000;
/// `VFS_CAP_FLAGS_EFFECTIVE`: who executes the file must get all of them, or the exec fails.
const EFFECTIVE: u32 = 1;

/// What a file's attribute says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCaps {
    /// What who executes it gets, as far as its bounding set has them.
    pub permitted: CapSet,
    /// The kernel refuses to execute it where one of `permitted` cannot be given (EPERM).
    pub effective: bool,
}

impl FileCaps {
    /// Reads the value of the attribute: `struct vfs_cap_data` or `struct vfs_ns_cap_data` of
    /// linux/capability.h. `None`: the kernel would not take it, either. Capabilities that this crate
    /// does not know are left out.
    pub fn parse(value: &[u8]) -> Option<FileCaps> {
        let (words, rest) = value.as_chunks::<4>();
        let word = |index: usize| words.get(index).copied().map(u32::from_le_bytes);
        let magic = word(0)?;
        // One or two pairs of permitted and inheritable words; in the third form the user id of the
        // root whose namespaces it is for follows.
        let (length, pairs) = match magic & REVISION {
            0x0100_0000 => (3, 1),
            0x0200_0000 => (5, 2),
            0x0300_0000 => (6, 2),
            _ => return None,
        };
        if words.len() != length || !rest.is_empty() {
            return None;
        }
        let high = if pairs == 2 { word(3)? } else { 0 };
        let permitted = CapSet::from_bits(u64::from(word(1)?) | u64::from(high) << 32);
        Some(FileCaps { permitted, effective: magic & EFFECTIVE != 0 })
    }

    /// Those of a file; `None`: it has none, or cannot be asked.
    pub(crate) fn of(path: &CStr) -> Option<FileCaps> {
        let mut value = [0u8; LARGEST];
        // SAFETY: the strings and the buffer live over the call, and the buffer's length is passed.
        let size = unsafe {
            libc::getxattr(path.as_ptr(), NAME.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        FileCaps::parse(value.get(..usize::try_from(size).ok()?)?)
    }

    /// Why a file with these is not executed by who can have no more than `bounding`, in words, with
    /// the key that gives them; `None`: they are not the reason.
    pub fn refusal(&self, bounding: CapSet) -> Option<String> {
        let missing = self.permitted.without(bounding);
        if !self.effective || missing == CapSet::EMPTY {
            return None;
        }
        let quoted: Vec<String> = missing.iter().map(|cap| format!("\"{}\"", cap.name())).collect();
        Some(format!(
            "has the {}, which the container does not have (cap_add = [{}])",
            describe(missing),
            quoted.join(", ")
        ))
    }

    /// What it would give, in words; `None`: nothing. (What only an inheritable set would get is
    /// nothing: a container's is empty.)
    pub fn gain(&self) -> Option<String> {
        (self.permitted != CapSet::EMPTY).then(|| format!("has the {}", describe(self.permitted)))
    }
}

fn describe(set: CapSet) -> String {
    let names: Vec<&str> = set.iter().map(|cap| cap.name()).collect();
    let noun = if names.len() == 1 { "file capability" } else { "file capabilities" };
    format!("{noun} {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(names: &[&str]) -> CapSet {
        CapSet::from_names(names, &["ALL"]).unwrap()
    }

    /// The value in the second or, with a root, in the third form.
    fn value(permitted: u64, effective: bool, root: Option<u32>) -> Vec<u8> {
        let revision: u32 = if root.is_some() { 0x0300_0000 } else { 0x0200_0000 };
        let words =
            [revision | u32::from(effective), permitted as u32, 7, (permitted >> 32) as u32, 7];
        words.into_iter().chain(root).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn what_cannot_be_given_is_named_with_its_key() {
        let ping = FileCaps::parse(&value(1 << 13, true, None)).unwrap();
        assert_eq!(
            ping.refusal(CapSet::DEFAULT).unwrap(),
            "has the file capability NET_RAW, which the container does not have \
             (cap_add = [\"NET_RAW\"])"
        );
        assert_eq!(ping.refusal(set(&["NET_RAW"])), None);
        let two =
            FileCaps::parse(&value(1 << 12 | 1 << 13 | 1 << 10, true, Some(524_288))).unwrap();
        assert_eq!(
            two.refusal(CapSet::DEFAULT).unwrap(),
            "has the file capabilities NET_ADMIN, NET_RAW, which the container does not have \
             (cap_add = [\"NET_ADMIN\", \"NET_RAW\"])"
        );
        assert_eq!(
            two.gain().unwrap(),
            "has the file capabilities NET_BIND_SERVICE, NET_ADMIN, NET_RAW"
        );
    }

    #[test]
    fn without_the_effective_flag_the_kernel_gives_what_it_can() {
        let file = FileCaps::parse(&value(1 << 13, false, None)).unwrap();
        assert_eq!(file.refusal(CapSet::EMPTY), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(caps) = FileCaps::parse(&bytes) {
                prop_assert!([12, 20, 24].contains(&bytes.len()));
                let refused = caps.refusal(CapSet::DEFAULT).is_some();
                prop_assert!(!refused || caps.effective);
            }
        }

        #[test]
        fn what_is_written_is_read(
            bits in any::<u64>(),
            effective in any::<bool>(),
            root in proptest::option::of(any::<u32>()),
        ) {
            let caps = FileCaps::parse(&value(bits, effective, root)).unwrap();
            prop_assert_eq!(caps.permitted.bits(), bits & CapSet::ALL.bits());
            prop_assert_eq!(caps.effective, effective);
            prop_assert_eq!(caps.refusal(CapSet::ALL), None);
            prop_assert_eq!(caps.gain().is_some(), caps.permitted != CapSet::EMPTY);
        }

        #[test]
        fn a_length_of_another_form_is_refused(extra in 1usize..12, bits in any::<u64>()) {
            let whole = value(bits, true, Some(1));
            prop_assert!(FileCaps::parse(&whole[..whole.len() - extra]).is_none());
        }
    }
}
