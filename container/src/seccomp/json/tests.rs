use super::*;
use crate::seccomp::Filter;
use proptest::prelude::*;

const KERNEL: Kernel = Kernel(6, 12);

fn read(text: &str) -> Result<Document, ProfileError> {
    Document::parse(text.as_bytes())
}

fn rules(syscalls: &str) -> Document {
    read(&format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{syscalls}]}}"#)).unwrap()
}

fn evaluate(document: &Document, caps: CapSet, call: &str, first: u64) -> Action {
    let (profile, _) = document.profile(caps, KERNEL);
    profile.evaluate(names::number(call).unwrap(), &[first, 0, 0, 0, 0, 0])
}

#[test]
fn an_error_names_the_location() {
    let deep = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},"#;
    for (text, message) in [
        ("", "invalid JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", "the profile: must be an object"),
        ("{}", "the profile: missing key `defaultAction`"),
        (r#"{"defaultAction":"DENY"}"#, r#"defaultAction: unknown action "DENY""#),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","rules":[]}"#, "the profile: unknown key `rules`"),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":-1}"#,
            "defaultErrnoRet: must be an integer from 0 to 18446744073709551615",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#,
            "defaultErrnoRet: must be 0 to 4095",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            "defaultAction: SCMP_ACT_NOTIFY is not supported: there is no listener",
        ),
        (&format!(r#"{deep} 7]}}"#), "syscalls[1]: must be an object"),
        (&format!(r#"{deep} {{"names":["read"]}}]}}"#), "syscalls[1]: missing key `action`"),
        (
            &format!(r#"{deep} {{"action":"SCMP_ACT_ALLOW"}}]}}"#),
            "syscalls[1]: missing key `names`",
        ),
        (
            &format!(r#"{deep} {{"names":["x"],"action":"SCMP_ACT_ALLOW","arg":[]}}]}}"#),
            "syscalls[1]: unknown key `arg`",
        ),
        (
            &format!(
                r#"{deep} {{"names":["x"],"action":"SCMP_ACT_ALLOW","args":[{{"index":6,"value":0,"op":"SCMP_CMP_EQ"}}]}}]}}"#
            ),
            "syscalls[1].args[0].index: must be 0 to 5",
        ),
        (
            &format!(
                r#"{deep} {{"names":["x"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":0,"op":"=="}}]}}]}}"#
            ),
            r#"syscalls[1].args[0].op: unknown operator "==""#,
        ),
        (
            &format!(
                r#"{deep} {{"names":["x"],"action":"SCMP_ACT_ALLOW","includes":{{"caps":["CAP_FUN"]}}}}]}}"#
            ),
            r#"syscalls[1].includes.caps: unknown capability "CAP_FUN""#,
        ),
        (
            &format!(
                r#"{deep} {{"names":["x"],"action":"SCMP_ACT_ALLOW","excludes":{{"minKernel":"new"}}}}]}}"#
            ),
            r#"syscalls[1].excludes.minKernel: invalid version "new": must be like "4.8""#,
        ),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), message, "{text}");
    }
    let large = " ".repeat(MAX_SIZE + 1);
    assert_eq!(read(&large).unwrap_err(), ProfileError::TooLarge(MAX_SIZE));
}

#[test]
fn includes_and_excludes_select_rules() {
    let document = rules(
        r#"{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
           {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
           {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
           {"names":["kcmp"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"7.0"}},
           {"names":["getcpu"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
           {"names":["mlock"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64","x32"]}},
           {"name":"read","action":"SCMP_ACT_ERRNO","errnoRet":13,"args":null},
           {"names":["write"],"action":"SCMP_ACT_ERRNO","errno":"ENOSYS"}"#,
    );
    let admin = CapSet::from_names(&["SYS_ADMIN"], &[]).unwrap();
    for (call, without, with) in [
        ("mount", Action::DENY, Action::Allow),
        ("clone", Action::Allow, Action::DENY),
        ("ptrace", Action::Allow, Action::Allow),
        ("kcmp", Action::DENY, Action::DENY),
        ("getcpu", Action::DENY, Action::DENY),
        ("mlock", Action::Allow, Action::Allow),
        ("read", Action::Errno(13), Action::Errno(13)),
        ("write", Action::UNKNOWN, Action::UNKNOWN),
    ] {
        assert_eq!(evaluate(&document, CapSet::DEFAULT, call, 0), without, "{call}");
        assert_eq!(evaluate(&document, admin, call, 0), with, "{call}");
    }
}

#[test]
fn a_rule_without_conditions_takes_precedence_with_a_warning() {
    let document = rules(
        r#"{"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]},
           {"names":["socket","read"],"action":"SCMP_ACT_ALLOW"},
           {"names":["read"],"action":"SCMP_ACT_KILL"}"#,
    );
    assert_eq!(evaluate(&document, CapSet::DEFAULT, "socket", 40), Action::Allow);
    assert_eq!(evaluate(&document, CapSet::DEFAULT, "read", 0), Action::Allow);
    let (_, warnings) = document.profile(CapSet::DEFAULT, KERNEL);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("syscalls[0] has no effect on socket: syscalls[1]"));
}

#[test]
fn two_conditions_on_one_argument_are_two_rules() {
    let document = rules(
        r#"{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
           {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":0,"op":"SCMP_CMP_EQ"}]},
           {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":240,"valueTwo":16,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
    );
    let allows = |call, first| evaluate(&document, CapSet::DEFAULT, call, first).allows();
    assert_eq!([0, 1, 2, 3].map(|family| allows("socket", family)), [false, true, true, false]);
    assert_eq!([0, 1].map(|flags| allows("clone", flags)), [false, true]);
    assert_eq!([0, 16, 0x31f, 32].map(|n| allows("personality", n)), [false, true, true, false]);
    assert_eq!(document.warnings().len(), 1);
}

#[test]
fn calls_of_other_architectures_are_ignored_and_unknown_ones_are_named() {
    let document = rules(r#"{"names":["chown32","socketcall","mkidr"],"action":"SCMP_ACT_ALLOW"}"#);
    assert_eq!(document.warnings(), [r#"ignored unknown system calls: "mkidr""#]);
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_AARCH64"]}"#;
    assert_eq!(read(text).unwrap().warnings().len(), 1);
}

#[test]
fn calls_newer_than_the_profile_fail_with_enosys() {
    let document = rules(r#"{"names":["read","statx"],"action":"SCMP_ACT_ALLOW"}"#);
    assert_eq!(evaluate(&document, CapSet::DEFAULT, "clone3", 0), Action::UNKNOWN);
    assert_eq!(evaluate(&document, CapSet::DEFAULT, "mount", 0), Action::DENY);
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}"#;
    let document = read(text).unwrap();
    assert_eq!(evaluate(&document, CapSet::DEFAULT, "clone3", 0), Action::Allow);
    assert_eq!(evaluate(&document, CapSet::DEFAULT, "mkdir", 0), Action::DENY);
    assert!(Filter::new(&document.profile(CapSet::DEFAULT, KERNEL).0).is_ok());
}

#[test]
fn versions_are_parsed_from_releases() {
    assert_eq!(Kernel::parse("6.12.48+deb13-cloud-amd64"), Some(Kernel(6, 12)));
    assert_eq!(Kernel::parse("4.8"), Some(Kernel(4, 8)));
    assert_eq!([Kernel::parse("4"), Kernel::parse(""), Kernel::parse("x.1")], [None; 3]);
    assert!(Kernel::running() > Kernel(4, 8));
}

/// JSON that resembles a profile.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "\"names\"",
        "\"name\"",
        "\"action\"",
        "\"args\"",
        "\"syscalls\"",
        "\"defaultAction\"",
        "\"SCMP_ACT_ERRNO\"",
        "\"SCMP_ACT_ALLOW\"",
        "\"index\"",
        "\"value\"",
        "\"valueTwo\"",
        "\"op\"",
        "\"SCMP_CMP_MASKED_EQ\"",
        "\"includes\"",
        "\"caps\"",
        "\"read\"",
        "\"socket\"",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "0",
        "18446744073709551615",
        "-1",
        "1.5",
        "null",
        "true",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text_is_an_error_or_a_profile(text in prop_oneof![nearly(), ".*"]) {
        if let Ok(document) = read(&text) {
            let _ = Filter::new(&document.profile(CapSet::DEFAULT, KERNEL).0);
        }
    }
}
