//! Converts the profile format of podman and docker to the `linux.seccomp` of an OCI bundle.
//!
//! A profile (containers/common, `pkg/seccomp`) has conditions on architecture and capabilities. The
//! bundle (runtime-spec, config-linux.md, "Seccomp") has only the rules whose conditions hold.

use engine_bench::{Failure, Naming};
use serde_json::{Map, Value, json};
use std::fs;

/// The profile in Debian's golang-github-containers-common, for podman and buildah.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// The profile as it applies on x86-64 to a container with these capabilities.
pub fn for_capabilities(capabilities: &[&str]) -> Result<Value, Failure> {
    let text = fs::read(PROFILE).naming(PROFILE)?;
    let profile: Value = serde_json::from_slice(&text).naming(PROFILE)?;
    let mut filter = Map::new();
    for key in ["defaultAction", "defaultErrnoRet"] {
        if let Some(value) = profile.get(key) {
            filter.insert(key.to_owned(), value.clone());
        }
    }
    filter.insert(
        "architectures".to_owned(),
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    );
    let rules = profile.get("syscalls").and_then(Value::as_array).cloned().unwrap_or_default();
    let rules: Vec<Value> = rules
        .into_iter()
        .filter(|rule| applies(rule, capabilities))
        .filter_map(|rule| {
            let Value::Object(mut rule) = rule else { return None };
            // Removes conditions and comments, for which the bundle's rule has no key.
            rule.retain(|key, value| {
                matches!(key.as_str(), "names" | "action" | "args" | "errnoRet") && !value.is_null()
            });
            Some(Value::Object(rule))
        })
        .collect();
    filter.insert("syscalls".to_owned(), Value::Array(rules));
    Ok(Value::Object(filter))
}

fn words<'v>(rule: &'v Value, side: &str, key: &str) -> Vec<&'v str> {
    let list = rule.get(side).and_then(|side| side.get(key)).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether a rule's conditions hold.
fn applies(rule: &Value, capabilities: &[&str]) -> bool {
    let arches = words(rule, "includes", "arches");
    let here = |arch: &&str| ["amd64", "x32", "x86"].contains(arch);
    (arches.is_empty() || arches.iter().any(here))
        && words(rule, "includes", "caps").iter().all(|cap| capabilities.contains(cap))
        && !words(rule, "excludes", "arches").iter().any(here)
        && !words(rule, "excludes", "caps").iter().any(|cap| capabilities.contains(cap))
}

#[cfg(test)]
mod tests {
    use super::applies;
    use serde_json::json;

    #[test]
    fn conditions_on_architecture_and_capabilities() {
        let none = json!({"names": ["read"], "includes": {}, "excludes": {}});
        assert!(applies(&none, &[]));
        let admin = json!({"includes": {"caps": ["CAP_SYS_ADMIN"]}, "excludes": {}});
        assert!(!applies(&admin, &["CAP_KILL"]));
        assert!(applies(&admin, &["CAP_SYS_ADMIN"]));
        let unless = json!({"includes": {}, "excludes": {"caps": ["CAP_SYS_ADMIN"]}});
        assert!(applies(&unless, &[]));
        assert!(!applies(&unless, &["CAP_SYS_ADMIN"]));
        assert!(!applies(&json!({"includes": {"arches": ["s390x"]}}), &[]));
        assert!(applies(&json!({"includes": {"arches": ["amd64", "x32"]}}), &[]));
    }
}
