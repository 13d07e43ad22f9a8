//! The user of a program: resolves the `user` of a unit or image against the image's own
//! `/etc/passwd` and `/etc/group`. Pure; the files are passed in as bytes.
//!
//! The rules are those of other runtimes, without their known vulnerabilities:
//! - digits are a number and never looked up as a name (CVE-2016-3697: a user *named* `1000` with
//!   uid 0), and a number beyond 32 bits is an error, not its low bits (CVE-2024-40635);
//! - 4294967295 is refused: as -1 it means "leave unchanged" to `setresuid(2)`;
//! - the groups are the primary one and, unless a group is given, those that list the user in
//!   `/etc/group` (CVE-2022-36109: the primary group is also a supplementary one).

/// Maximum size of `/etc/passwd` or `/etc/group` (CVE-2026-47262), in bytes.
pub const MAX_FILE: usize = 1024 * 1024;

/// Maximum number of supplementary groups (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// One half of a `user` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id<'a> {
    /// A number.
    Number(u32),
    /// A name.
    Name(&'a str),
}

/// A parsed `user` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserSpec<'a> {
    /// The user; an empty text is uid 0.
    pub user: Id<'a>,
    /// The group, if given.
    pub group: Option<Id<'a>>,
}

/// The identity that a program runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups: the primary one first, no duplicates.
    pub groups: Vec<u32>,
    /// Home directory: from the passwd entry, otherwise `/`.
    pub home: String,
}

/// Why a user cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The value is malformed.
    #[error("user {text:?}: {reason}")]
    Syntax {
        /// The value.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No such user in the image.
    #[error("user {0:?} is not in the image's /etc/passwd")]
    NoUser(String),
    /// No such group in the image.
    #[error("group {0:?} is not in the image's /etc/group")]
    NoGroup(String),
    /// The entry exists but has an invalid id.
    #[error("the image's {file} has an entry for {name:?} with an invalid id")]
    BadEntry {
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
        /// The user or group.
        name: String,
    },
    /// More supplementary groups than the kernel supports.
    #[error("user {0:?} is in more than 65536 groups")]
    TooManyGroups(String),
}

impl UserError {
    /// The reason of a [`UserError::Syntax`], without the value.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            UserError::Syntax { reason, .. } => reason,
            _ => "cannot be used",
        }
    }
}

/// Parses an id: ASCII digits only, at most 4294967294.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn id<'a>(text: &'a str, whole: &str) -> Result<Id<'a>, UserError> {
    let syntax = |reason| UserError::Syntax { text: whole.to_owned(), reason };
    if text.is_empty() {
        return Err(syntax("the user or the group is empty"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text).map(Id::Number).ok_or(syntax("an id must be 0 to 4294967294"));
    }
    if text.starts_with(['-', '+']) {
        return Err(syntax("an id must not have a sign"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(syntax("a name must not contain whitespace or control characters"));
    }
    Ok(Id::Name(text))
}

/// Parses a `user` value.
///
/// # Errors
/// [`UserError::Syntax`].
pub fn parse(text: &str) -> Result<UserSpec<'_>, UserError> {
    if text.is_empty() {
        return Ok(UserSpec { user: Id::Number(0), group: None });
    }
    match text.split_once(':') {
        None => Ok(UserSpec { user: id(text, text)?, group: None }),
        Some((user, group)) => {
            if group.contains(':') {
                let reason = "must be user or user:group";
                return Err(UserError::Syntax { text: text.to_owned(), reason });
            }
            Ok(UserSpec { user: id(user, text)?, group: Some(id(group, text)?) })
        }
    }
}

/// The fields of each line of a colon-separated file (passwd(5), group(5)); lines that are not
/// UTF-8, comments and empty lines are skipped.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The passwd entry of `user`. The first line that matches counts; a later one never replaces an
/// invalid first one.
fn passwd_entry<'a>(user: Id<'_>, passwd: &'a [u8]) -> Result<Option<Entry<'a>>, UserError> {
    for fields in lines(passwd) {
        let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { continue };
        let entry = number(uid).zip(number(gid)).map(|(uid, gid)| Entry {
            name,
            uid,
            gid,
            home: rest.get(1).copied().unwrap_or_default(),
        });
        match (user, entry) {
            (Id::Name(wanted), None) if wanted == *name => {
                return Err(UserError::BadEntry { file: "/etc/passwd", name: wanted.to_owned() });
            }
            (Id::Name(wanted), Some(entry)) if wanted == *name => return Ok(Some(entry)),
            (Id::Number(wanted), Some(entry)) if wanted == entry.uid => return Ok(Some(entry)),
            _ => {}
        }
    }
    Ok(None)
}

/// The id of a group, by name.
fn group_number(wanted: &str, group: &[u8]) -> Result<u32, UserError> {
    for fields in lines(group) {
        if let [name, _, gid, ..] = fields.as_slice()
            && *name == wanted
        {
            return number(gid).ok_or_else(|| UserError::BadEntry {
                file: "/etc/group",
                name: wanted.to_owned(),
            });
        }
    }
    Err(UserError::NoGroup(wanted.to_owned()))
}

/// Whether [`resolve`] could need `/etc/group` for this value (otherwise it is not opened).
pub fn needs_group_file(spec: &UserSpec<'_>) -> bool {
    !matches!(spec.group, Some(Id::Number(_)))
}

/// Resolves the ids. `passwd` and `group` are the contents of the files, empty if the image has
/// none.
///
/// # Errors
/// A named user or group that does not exist or has an invalid id.
pub fn resolve(spec: &UserSpec<'_>, passwd: &[u8], group: &[u8]) -> Result<Identity, UserError> {
    let entry = passwd_entry(spec.user, passwd)?;
    let (uid, mut gid) = match (spec.user, &entry) {
        (_, Some(entry)) => (entry.uid, entry.gid),
        (Id::Number(uid), None) => (uid, 0),
        (Id::Name(name), None) => return Err(UserError::NoUser(name.to_owned())),
    };
    let mut groups = Vec::new();
    match spec.group {
        Some(Id::Number(number)) => gid = number,
        Some(Id::Name(name)) => gid = group_number(name, group)?,
        None => {
            if let Some(entry) = &entry {
                groups = memberships(entry.name, group);
            }
        }
    }
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    if let Some(at) = groups.iter().position(|group| *group == gid) {
        groups.swap(0, at);
    }
    if groups.len() > MAX_GROUPS {
        let name = entry.as_ref().map_or_else(|| uid.to_string(), |entry| entry.name.to_owned());
        return Err(UserError::TooManyGroups(name));
    }
    let home = entry.map(|entry| entry.home).filter(|home| home.starts_with('/'));
    Ok(Identity { uid, gid, groups, home: home.unwrap_or("/").to_owned() })
}

/// The groups that list `name` as a member.
fn memberships(name: &str, group: &[u8]) -> Vec<u32> {
    lines(group)
        .filter_map(|fields| match fields.as_slice() {
            [_, _, gid, members, ..] if members.split(',').any(|member| member == name) => {
                number(gid)
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # comment\n\
        broken\n\
        1000:x:0:0:a trap:/trap:/bin/sh\n\
        web:x:1000:1001::/srv/web:/bin/false\n\
        far:x:4294967296:0::/:\n\
        minus:x:4294967295:0::/:\n\
        nohome:x:7:8\n";
    const GROUP: &[u8] =
        b"root:x:0:\nweb:x:1001:\nlogs:x:50:web,other\nwheel:x:10:root\nbig:x:99999999999:web\n";

    fn who(text: &str) -> Result<Identity, UserError> {
        resolve(&parse(text)?, PASSWD, GROUP)
    }

    #[test]
    fn the_usual_forms() {
        let id = |uid, gid, groups: &[u32], home: &str| {
            Ok(Identity { uid, gid, groups: groups.to_vec(), home: home.into() })
        };
        assert_eq!(who(""), id(0, 0, &[0, 10], "/root"));
        assert_eq!(who("web"), id(1000, 1001, &[1001, 50], "/srv/web"));
        assert_eq!(who("web:logs"), id(1000, 50, &[50], "/srv/web"));
        assert_eq!(who("web:7"), id(1000, 7, &[7], "/srv/web"));
        assert_eq!(who("5555"), id(5555, 0, &[0], "/"));
        assert_eq!(who("5555:5556"), id(5555, 5556, &[5556], "/"));
        assert_eq!(who("nohome"), id(7, 8, &[8], "/"));
    }

    #[test]
    fn cve_2016_3697_a_number_is_never_a_name() {
        assert_eq!(who("1000").map(|id| (id.uid, id.gid)), Ok((1000, 1001)));
    }

    #[test]
    fn cve_2024_40635_a_number_beyond_32_bits_is_an_error() {
        for text in ["4294967296", "4294967295", "18446744073709551616", "0:4294967296"] {
            assert!(matches!(parse(text), Err(UserError::Syntax { .. })), "{text}");
        }
        assert!(matches!(who("far"), Err(UserError::BadEntry { .. })));
        assert!(matches!(who("minus"), Err(UserError::BadEntry { .. })));
    }

    #[test]
    fn malformed_texts() {
        for text in [":", ":5", "5:", "a:b:c", "-1", "+1", "a b", "0:-1", "a\n", "a:"] {
            assert!(matches!(parse(text), Err(UserError::Syntax { .. })), "{text:?}");
        }
        assert_eq!(who("nobody"), Err(UserError::NoUser("nobody".into())));
        assert_eq!(who("web:nogroup"), Err(UserError::NoGroup("nogroup".into())));
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-z_][a-z0-9_-]{0,8}"
    }

    proptest! {
        #[test]
        fn any_text_and_any_files_never_panic(
            text in ".{0,40}",
            passwd in proptest::collection::vec(any::<u8>(), 0..300),
            group in "[a-z0-9:,\n]{0,300}",
        ) {
            if let Ok(spec) = parse(&text) {
                let _ = resolve(&spec, &passwd, group.as_bytes());
            }
        }

        #[test]
        fn digits_become_exactly_that_id_or_an_error(number in any::<u64>()) {
            match (who(&number.to_string()), u32::try_from(number)) {
                (Ok(id), Ok(wanted)) => prop_assert_eq!(id.uid, wanted),
                (Err(UserError::Syntax { .. }), Ok(id)) => prop_assert_eq!(id, u32::MAX),
                (Err(UserError::Syntax { .. }), Err(_)) => {}
                (got, _) => prop_assert!(false, "{:?}", got),
            }
        }

        #[test]
        fn a_generated_passwd_is_read_back(
            users in proptest::collection::btree_map(name(), (0u32..u32::MAX, 0u32..u32::MAX), 1..8),
            groups in proptest::collection::btree_map(
                name(), (0u32..u32::MAX, proptest::collection::vec(name(), 0..4)), 0..8),
            member_of in proptest::collection::vec(0u32..u32::MAX, 0..4),
        ) {
            let passwd: String = users.iter()
                .map(|(name, (uid, gid))| format!("{name}:x:{uid}:{gid}:gecos:/home/{name}:/bin/sh\n"))
                .collect();
            let (wanted, (uid, gid)) = users.iter().next().unwrap();
            let mut group: String = groups.iter()
                .map(|(name, (gid, members))| format!("{name}:x:{gid}:{}\n", members.join(",")))
                .collect();
            for (n, gid) in member_of.iter().enumerate() {
                group.push_str(&format!("Extra{n}:x:{gid}:someone,{wanted}\n"));
            }
            let mut expected: Vec<u32> = groups.values()
                .filter(|(_, members)| members.contains(wanted))
                .map(|(gid, _)| *gid)
                .chain(member_of)
                .chain([*gid])
                .collect();
            expected.sort_unstable();
            expected.dedup();

            let id = resolve(&parse(wanted).unwrap(), passwd.as_bytes(), group.as_bytes()).unwrap();
            prop_assert_eq!((id.uid, id.gid), (*uid, *gid));
            prop_assert_eq!(id.groups.first(), Some(gid));
            let mut got = id.groups;
            got.sort_unstable();
            prop_assert_eq!(got, expected);
            prop_assert_eq!(id.home, format!("/home/{wanted}"));
        }
    }
}
