//! Extended attributes, as stored after an inode.

use super::ErofsError;
use std::collections::BTreeMap;

/// `struct erofs_xattr_ibody_header`: name filter, number of shared attributes, reserved.
const HEADER: usize = 12;
/// Prefixes that are stored as a number (`EROFS_XATTR_INDEX_*`).
const PREFIXES: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];

/// All attributes of an inode: a header, then for each its name without the prefix and its value,
/// padded to 4 bytes. Empty if there are none.
pub(super) fn encode(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, ErofsError> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; HEADER];
    for (name, value) in xattrs {
        let invalid = || ErofsError::Xattr(name.escape_ascii().to_string());
        let (index, rest) = PREFIXES
            .iter()
            .find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)))
            .ok_or_else(invalid)?;
        let name_len = u8::try_from(rest.len()).map_err(|_| invalid())?;
        let value_len = u16::try_from(value.len()).map_err(|_| invalid())?;
        bytes.extend([name_len, index]);
        bytes.extend(value_len.to_le_bytes());
        bytes.extend(rest);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        // The inode counts them in units of 4 bytes in 16 bits.
        count(bytes.len()).ok_or_else(invalid)?;
    }
    Ok(bytes)
}

/// `i_xattr_icount` for `length` bytes: 0 for none, else 1 for the header and 1 for each 4 bytes.
pub(super) fn count(length: usize) -> Option<u16> {
    match length {
        0 => Some(0),
        _ => u16::try_from(length.checked_sub(HEADER)? / 4 + 1).ok(),
    }
}
