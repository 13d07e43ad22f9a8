//! `process`, which has the same form for a container and for `exec`.

use super::node::{ConfigError, DOCUMENT, MAX_SIZE, Node, parse, quote};
use super::{Program, inner_path};
use container::{CapSet, Capability, Process, Resource, Rlimit};

const SECURITY_MODULES: &str =
    "AppArmor and SELinux are not supported; remove it or leave it empty";

impl Program {
    /// Reads the file of `exec --process`.
    ///
    /// # Errors
    /// The first invalid or unsupported key.
    pub fn parse(text: &[u8]) -> Result<Program, ConfigError> {
        let value = parse(text, MAX_SIZE)?;
        Program::read(&Node::root(&value, DOCUMENT))
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Program, ConfigError> {
        node.refuse(&["apparmorProfile", "selinuxLabel"], SECURITY_MODULES)?;
        node.refuse(&["scheduler", "ioPriority", "execCPUAffinity"], "not supported")?;
        let mut warnings = Vec::new();
        let args = node.need("args")?;
        let argv = args.texts()?;
        if argv.first().is_none_or(String::is_empty) {
            return Err(args.bad("must name a program"));
        }
        let env = match node.get("env")? {
            Some(list) => environment(&list)?,
            None => Vec::new(),
        };
        let user = node.get("user")?;
        let id = |name| match &user {
            Some(user) => user.get(name)?.map_or(Ok(0), |node| node.id()),
            None => Ok(0),
        };
        let (uid, gid) = (id("uid")?, id("gid")?);
        let member = |name| user.as_ref().map_or(Ok(None), |user| user.get(name));
        let groups = match member("additionalGids")? {
            Some(list) => list.list()?.iter().map(Node::id).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let umask = member("umask")?.map_or(Ok(Process::UMASK), |node| node.number(0o777))?;
        let caps = match node.get("capabilities")? {
            Some(sets) => Capabilities::read(&sets, &mut warnings)?,
            None => Capabilities::NONE,
        };
        let adjustment = node.get("oomScoreAdj")?;
        let oom_score_adj = match &adjustment {
            Some(node) => node.integer()?.try_into().ok().filter(|n| (-1000..=1000).contains(n)),
            None => Some(0),
        };
        let out_of_range = || adjustment.as_ref().map(|node| node.bad("must be -1000 to 1000"));
        let Some(oom_score_adj) = oom_score_adj else {
            return Err(out_of_range().unwrap_or_else(|| node.bad("oomScoreAdj")));
        };
        let process = Process {
            argv,
            env,
            cwd: inner_path(&node.need("cwd")?)?,
            user: format!("{uid}:{gid}"),
            groups: Some(groups),
            umask,
            caps: caps.bounding,
            inheritable: caps.inheritable,
            ambient: caps.ambient,
            no_new_privs: node.get("noNewPrivileges")?.map_or(Ok(false), |node| node.boolean())?,
            rlimits: node.get("rlimits")?.map_or(Ok(Vec::new()), |list| rlimits(&list))?,
            oom_score_adj,
        };
        let terminal = match node.get("terminal")?.map_or(Ok(false), |node| node.boolean())? {
            true => Some(node.get("consoleSize")?.map(|size| console_size(&size)).transpose()?),
            false => None,
        };
        Ok(Program { process, oom_score_given: adjustment.is_some(), terminal, warnings })
    }
}

fn environment(list: &Node<'_>) -> Result<Vec<String>, ConfigError> {
    let env = list.texts()?;
    let wrong = env.iter().position(|text| text.find('=').is_none_or(|at| at == 0));
    match wrong {
        None => Ok(env),
        Some(number) => {
            let text = env.get(number).map(|text| quote(text)).unwrap_or_default();
            Err(list.bad(format!("entry {number}, {text}, must be NAME=VALUE")))
        }
    }
}

fn console_size(node: &Node<'_>) -> Result<(u16, u16), ConfigError> {
    let side = |name| Ok(node.need(name)?.number(u32::from(u16::MAX))?.try_into().unwrap_or(0));
    Ok((side("height")?, side("width")?))
}

fn rlimits(list: &Node<'_>) -> Result<Vec<Rlimit>, ConfigError> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for node in list.list()? {
        let kind = node.need("type")?;
        let name = kind.text()?;
        let known = |resource: &&Resource| {
            name.strip_prefix("RLIMIT_") == Some(resource.name().to_ascii_uppercase().as_str())
        };
        let resource = *Resource::ALL.iter().find(known).ok_or_else(|| {
            kind.bad(format!("{} is not a resource limit of getrlimit(2)", quote(name)))
        })?;
        let (soft, hard) = (node.need("soft")?.unsigned()?, node.need("hard")?.unsigned()?);
        if soft > hard {
            return Err(node.bad("the soft limit exceeds the hard limit"));
        }
        if limits.iter().any(|limit| limit.resource == resource) {
            return Err(kind.bad(format!("duplicate {name}")));
        }
        limits.push(Rlimit { resource, soft, hard });
    }
    Ok(limits)
}

/// The capability sets that the engine sets. After exec, root has the bounding set
/// (capabilities(7), "Capabilities and execution of programs by root"), other users have the
/// ambient set.
struct Capabilities {
    bounding: CapSet,
    inheritable: CapSet,
    ambient: CapSet,
}

impl Capabilities {
    const NONE: Capabilities = Capabilities {
        bounding: CapSet::EMPTY,
        inheritable: CapSet::EMPTY,
        ambient: CapSet::EMPTY,
    };

    fn read(sets: &Node<'_>, warnings: &mut Vec<String>) -> Result<Capabilities, ConfigError> {
        let mut set = |name: &str| match sets.get(name)? {
            Some(list) => named(&list, name, warnings),
            None => Ok(CapSet::EMPTY),
        };
        let bounding = set("bounding")?;
        let within = |name: &str, set: CapSet| match set.intersection(bounding) == set {
            true => Ok(set),
            false => Err(sets.bad(format!("{name} contains capabilities that bounding does not"))),
        };
        within("effective", set("effective")?)?;
        let permitted = within("permitted", set("permitted")?)?;
        let inheritable = within("inheritable", set("inheritable")?)?;
        let wanted = set("ambient")?;
        let ambient = wanted.intersection(permitted).intersection(inheritable);
        if ambient != wanted {
            let text = "process.capabilities.ambient: what is not in permitted and in inheritable \
                        cannot be given and is left out";
            warnings.push(text.to_owned());
        }
        Ok(Capabilities { bounding, inheritable, ambient })
    }
}

/// Unknown names are ignored with a warning, as the specification requires.
fn named(list: &Node<'_>, set: &str, warnings: &mut Vec<String>) -> Result<CapSet, ConfigError> {
    let mut found = CapSet::EMPTY;
    for name in list.texts()? {
        match Capability::from_name(&name).filter(|_| name.starts_with("CAP_")) {
            Some(capability) => found = found.with(capability),
            None => warnings.push(format!(
                "process.capabilities.{set}: unknown capability {} ignored",
                quote(&name)
            )),
        }
    }
    Ok(found)
}
