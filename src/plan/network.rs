//! Which network the container gets, and by whom.
//!
//! A plain user cannot connect a network namespace to the machine's network: that takes root. What a plain user
//! can have is a *helper*, a process that sits in the machine's network namespace, opens a tap device in the
//! container's, and turns what comes out of it into connections of its own: pasta, which copies the host's addresses into
//! the container and moves streams by splice(2), or slirp4netns, which has a TCP/IP stack and a network 10.0.2.0/24
//! of its own. Published ports are the helper's sockets.
//!
//! Without `--network` and without the annotation nothing of this module has a say: the container has the
//! network namespace that config.json lists, or shares ours. Asked for, the word wins over what config.json lists:
//!
//! ```text
//! auto            new namespace; pasta, else slirp4netns, else loopback alone (NET-NOHELPER, NET-TUN)
//! pasta | slirp4netns    new namespace and that helper, or a refusal
//! none            new namespace, loopback alone
//! host            ours; what follows from that for /sys and net.* is decided where it always is
//! ns:PATH         joined, user namespace first
//! ```
//!
//! The helper is a program of the host that parses what the container sends. So nothing of the image reaches its
//! command line, its environment or its descriptors; what it works on are descriptors of the namespaces, which
//! no reused pid can change.

mod devices;
mod helper;
mod names;
mod publish;

pub use devices::{Device, decide as decide_devices};
pub use helper::{API_SOCKET, Helper, HelperKind, slirp4netns_request};
pub use names::Shown;
pub use publish::{Protocol, Publish, parse as parse_publish};

use super::degrade::{Allowance, Degradation, Policy};
use super::namespaces::Namespaces;
use crate::host::network::Network as Facts;
use crate::host::{CAP_NET_BIND_SERVICE, Facts as Host};
use crate::report::{Failure, errno_text};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxNamespaceBuilder, LinuxNamespaceType, Spec};
use std::collections::HashMap;
use std::path::PathBuf;

/// By which annotation any caller may ask for a network: the words of `--network`.
pub const NETWORK: &str = "io.bryo.network";
/// The same for published ports: the words of `--publish`, separated by commas.
pub const PUBLISH: &str = "io.bryo.publish";

/// A word of `--network`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Auto,
    None,
    Host,
    By(HelperKind),
    /// An existing namespace, by its absolute path.
    Join(PathBuf),
}

/// Reads a word of `--network`.
///
/// # Errors
/// One that is none.
pub fn parse(word: &str) -> Result<Mode, String> {
    match word {
        "auto" => Ok(Mode::Auto),
        "none" => Ok(Mode::None),
        "host" => Ok(Mode::Host),
        "pasta" => Ok(Mode::By(HelperKind::Pasta)),
        "slirp4netns" => Ok(Mode::By(HelperKind::Slirp4netns)),
        _ => match word.strip_prefix("ns:").map(PathBuf::from) {
            Some(path) if path.is_absolute() => Ok(Mode::Join(path)),
            Some(path) => Err(format!("{}: the path of a namespace is absolute", path.display())),
            None => Err(format!("{word:?} is no network: auto, none, host, pasta, slirp4netns or ns:PATH")),
        },
    }
}

/// What was asked for, by flag or annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub mode: Mode,
    pub publish: Vec<Publish>,
}

/// What is asked for; the flags win over the annotations. `None` where nothing is.
///
/// # Errors
/// An annotation that makes no sense, ports that overlap, and ports where nobody could publish them.
pub fn asked(
    container: &str,
    annotations: &HashMap<String, String>,
    mode: Option<&Mode>,
    publish: &[Publish],
) -> Result<Option<Asked>, Failure> {
    let bad = |name: &str, cause: String| {
        Failure::new(
            format!("cannot read annotation {name} of container {container}"),
            format!("{cause}: invalid argument"),
        )
    };
    let mode = match (mode, annotations.get(NETWORK)) {
        (Some(mode), _) => Some(mode.clone()),
        (None, Some(word)) => Some(parse(word).map_err(|cause| bad(NETWORK, cause))?),
        (None, None) => None,
    };
    let mut publish = publish.to_vec();
    if let Some(words) = annotations.get(PUBLISH).filter(|_| publish.is_empty()) {
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            publish.push(parse_publish(word).map_err(|cause| bad(PUBLISH, cause))?);
        }
    }
    let refuse = |cause: String, fix: &str| {
        Err(Failure::new(format!("cannot publish ports of container {container}"), cause).fix(fix))
    };
    if let Some((one, other)) = publish::overlap(&publish) {
        return refuse(
            format!("{one} and {other} overlap: address already in use"),
            "publish each port of the host once",
        );
    }
    let Some(mode) = mode else {
        if publish.is_empty() {
            return Ok(None);
        }
        return refuse("no network that could was asked for: invalid argument".into(), "add --network auto");
    };
    let why_not = match &mode {
        Mode::Auto | Mode::By(_) => None,
        Mode::None => Some("the container has no network but loopback"),
        Mode::Host => Some("the container's ports are the host's already"),
        Mode::Join(_) => Some("the network of a joined namespace is made by others"),
    };
    if let Some(why_not) = why_not.filter(|_| !publish.is_empty()) {
        return refuse(format!("{why_not}: invalid argument"), "use --network auto, pasta or slirp4netns");
    }
    Ok(Some(Asked { mode, publish }))
}

/// Lists the namespace that was asked for, in place of what the configuration lists.
///
/// # Errors
/// None that is known.
pub fn list(linux: &mut Linux, asked: &Asked, container: &str) -> Result<(), Failure> {
    let mut listed = linux.namespaces().clone().unwrap_or_default();
    listed.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
    let builder = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Network);
    let builder = match &asked.mode {
        Mode::Host => None,
        Mode::Join(path) => Some(builder.path(path.clone())),
        Mode::Auto | Mode::None | Mode::By(_) => Some(builder),
    };
    if let Some(builder) = builder {
        let act = || format!("cannot plan the network of container {container}");
        listed.push(builder.build().map_err(|error| Failure::new(act(), error.to_string()))?);
    }
    linux.set_namespaces(Some(listed));
    Ok(())
}

/// The network of a container, decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Who connects it.
    pub helper: Option<Helper>,
    /// The files by which names are found, as the container sees them.
    pub shown: Vec<Shown>,
    /// Devices of the host that become the container's.
    pub devices: Vec<Device>,
}

/// Decides.
///
/// # Errors
/// `NET-TUN` and `NET-NOHELPER` where a network was asked for that cannot be had, `NET-PORT` and `NET-V6` for
/// ports that cannot be published.
pub fn decide(
    asked: &Asked,
    container: &str,
    spec: &Spec,
    namespaces: &Namespaces,
    (host, policy): (&Host, &Policy),
    degradations: &mut Vec<Degradation>,
) -> Result<Network, Failure> {
    let helper = match asked.mode {
        Mode::None | Mode::Host | Mode::Join(_) => None,
        Mode::Auto | Mode::By(_) => choose(asked, container, (host, policy), degradations)?
            .map(|chosen| helper(chosen, asked, container, (namespaces, host), degradations))
            .transpose()?,
    };
    let hostname = spec.hostname().as_deref().filter(|name| !name.is_empty());
    let hostname = hostname.filter(|_| namespaces.has(CloneFlags::CLONE_NEWUTS));
    let wanted = names::Wanted {
        hostname: hostname.unwrap_or(&host.network.hostname),
        resolver: match (&asked.mode, &helper) {
            (Mode::Host, _) => names::Resolver::OfHost,
            (Mode::Join(_), _) => names::Resolver::Reachable { forwarder: None },
            (_, Some(helper)) => names::Resolver::Reachable { forwarder: Some(helper.kind.forwarder()) },
            (_, None) => names::Resolver::None,
        },
        mounts: spec.mounts().as_deref().unwrap_or_default(),
    };
    let (shown, forwards) = names::files(&wanted, &host.network);
    let helper = helper.map(|helper| Helper { forwards_names: forwards, ..helper });
    Ok(Network { helper, shown, devices: Vec::new() })
}

/// Who is to connect the container; `None` where it has to do without.
fn choose(
    asked: &Asked,
    container: &str,
    (host, policy): (&Host, &Policy),
    degradations: &mut Vec<Degradation>,
) -> Result<Option<(HelperKind, PathBuf)>, Failure> {
    let there = |kind: HelperKind| kind.found(&host.network).map(|path| (kind, path.clone()));
    let (candidates, absent): (&[HelperKind], _) = match asked.mode {
        Mode::By(HelperKind::Pasta) => (&[HelperKind::Pasta], "pasta is not installed"),
        Mode::By(HelperKind::Slirp4netns) => (&[HelperKind::Slirp4netns], "slirp4netns is not installed"),
        // Before it knew a local mode (2024), pasta ended where there is no route to copy.
        _ if !host.network.routed => {
            (&[HelperKind::Slirp4netns, HelperKind::Pasta], "neither pasta nor slirp4netns is installed")
        }
        _ => (&[HelperKind::Pasta, HelperKind::Slirp4netns], "neither pasta nor slirp4netns is installed"),
    };
    let (code, because, fix) = match (&host.network.tun, candidates.iter().find_map(|kind| there(*kind))) {
        (None, Some(chosen)) => return Ok(Some(chosen)),
        (Some(errno), _) => (
            "NET-TUN",
            format!("/dev/net/tun: {}", errno_text(*errno)),
            "sudo modprobe tun and sudo chmod 666 /dev/net/tun; in an outer container, add the device (docker, podman: --device /dev/net/tun)",
        ),
        (None, None) => (
            "NET-NOHELPER",
            format!("{absent}: no such file or directory"),
            "install passt (Debian, Fedora), which brings pasta",
        ),
    };
    let wanted = match &asked.publish[..] {
        [] => "a network".into(),
        ports => {
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            format!("a network with {}", ports.join(" and "))
        }
    };
    let alone = Degradation::weaker(code, wanted, "the loopback interface alone", because.clone()).fix(fix);
    let alone = policy.grade(Allowance::Network, alone);
    if asked.mode == Mode::Auto && asked.publish.is_empty() || policy.allows(Allowance::Network) {
        degradations.push(alone);
        return Ok(None);
    }
    Err(Failure::new(format!("cannot connect container {container} to a network"), because)
        .code(code)
        .fix(Allowance::Network.or_without(fix)))
}

/// The helper with its ports.
fn helper(
    (kind, program): (HelperKind, PathBuf),
    asked: &Asked,
    container: &str,
    (namespaces, host): (&Namespaces, &Host),
    degradations: &mut Vec<Degradation>,
) -> Result<Helper, Failure> {
    let free = host.network.unprivileged_port_start;
    // In a user namespace of somebody's it is not known whose the network namespace is; the helper's bind tells.
    let may_bind = host.capable(CAP_NET_BIND_SERVICE);
    if let Some(publish) = asked.publish.iter().find(|publish| publish.first < free && !may_bind) {
        return Err(Failure::new(
            format!("cannot publish port {} of container {container}", publish.first),
            format!("ports below {free} are root's: permission denied"),
        )
        .code("NET-PORT")
        .fix(format!(
            "publish one from {free} on, or sudo sysctl -w net.ipv4.ip_unprivileged_port_start={}",
            publish.first
        )));
    }
    let alone = ipv4_alone(kind, host);
    if let Some(why) = alone {
        without_ipv6(why, &asked.publish, container, degradations)?;
    }
    Ok(Helper {
        kind,
        program,
        publish: asked.publish.clone(),
        forwards_names: false,
        as_root: host.euid == 0,
        ipv4_alone: alone.is_some(),
        out_of_sight: namespaces.is_new(CloneFlags::CLONE_NEWPID),
    })
}

/// Why a helper publishes on IPv4 addresses alone, and what helps, where it does.
fn ipv4_alone(kind: HelperKind, host: &Host) -> Option<(&'static str, &'static str)> {
    match kind {
        HelperKind::Slirp4netns => {
            Some(("slirp4netns publishes on IPv4 addresses alone", "install passt and use --network pasta"))
        }
        // Without addresses to copy, the container's only one of IPv6 is link-local, and pasta (2025) accepts
        // connections for it that lead nowhere.
        HelperKind::Pasta if !host.network.routed => {
            Some(("without a route, pasta's network is one of IPv4 alone", "give the host a default route"))
        }
        HelperKind::Pasta => None,
    }
}

/// Refuses ports of IPv6 addresses, and notes that those of all addresses are less than that.
fn without_ipv6(
    (because, fix): (&'static str, &'static str),
    publish: &[Publish],
    container: &str,
    degradations: &mut Vec<Degradation>,
) -> Result<(), Failure> {
    if let Some(publish) = publish.iter().find(|publish| publish.address.is_some_and(|a| a.is_ipv6())) {
        let act = format!("cannot publish {publish} of container {container}");
        let cause = format!("{because}: operation not supported");
        return Err(Failure::new(act, cause).code("NET-V6").fix(fix));
    }
    let both: Vec<_> =
        publish.iter().filter(|publish| publish.address.is_none()).map(ToString::to_string).collect();
    if !both.is_empty() {
        let wanted = format!("{} on IPv4 and IPv6", both.join(" and "));
        degradations.push(Degradation::weaker("NET-V6", wanted, "IPv4 alone", because).fix(fix));
    }
    Ok(())
}

/// Whether the configuration asks for a network by its annotations.
pub fn is_annotated(spec: &Spec) -> bool {
    let annotated =
        |all: &HashMap<String, String>| [NETWORK, PUBLISH].iter().any(|name| all.contains_key(*name));
    spec.annotations().as_ref().is_some_and(annotated)
}

impl HelperKind {
    /// Its program on this host.
    fn found(self, facts: &Facts) -> Option<&PathBuf> {
        match self {
            HelperKind::Pasta => facts.pasta.as_ref(),
            HelperKind::Slirp4netns => facts.slirp4netns.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    #[test]
    fn the_words_of_network() {
        assert_eq!(parse("pasta"), Ok(Mode::By(HelperKind::Pasta)));
        assert_eq!(parse("ns:/run/netns/blue"), Ok(Mode::Join("/run/netns/blue".into())));
        for bad in ["", "Auto", "bridge", "ns:", "ns:blue", "pasta:-T", " none"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_win_over_annotations_and_annotations_alone_ask() {
        let both = &[(NETWORK, "none"), (PUBLISH, "8080:80, 9000:90/udp")];
        let asked_by =
            |mode: Option<&Mode>, pairs: &[(&str, &str)]| asked("web", &annotated(pairs), mode, &[]);
        let flagged = asked_by(Some(&Mode::Auto), both).unwrap().unwrap();
        assert_eq!((flagged.mode, flagged.publish.len()), (Mode::Auto, 2));
        assert_eq!(asked_by(None, &[]), Ok(None));
        let only = asked_by(None, &[(NETWORK, "host")]).unwrap().unwrap();
        assert_eq!(only, Asked { mode: Mode::Host, publish: vec![] });
        let line = asked_by(None, &[(NETWORK, "bridge")]).unwrap_err().to_string();
        assert!(line.contains(NETWORK) && line.contains("\"bridge\""), "{line}");
    }

    #[test]
    fn ports_are_published_where_somebody_can_and_refused_elsewhere() {
        let port = [parse_publish("8080:80").unwrap()];
        let asked = |mode: Option<Mode>| asked("web", &annotated(&[]), mode.as_ref(), &port);
        assert!(asked(Some(Mode::Auto)).is_ok());
        for mode in [None, Some(Mode::None), Some(Mode::Host), Some(Mode::Join("/run/netns/blue".into()))] {
            let line = asked(mode).unwrap_err().to_string();
            assert!(line.contains("invalid argument; fix: "), "{line}");
        }
    }

    #[test]
    fn what_overlaps_is_refused() {
        let ports = ["8000-8010:80-90", "127.0.0.1:8010:1"].map(|word| parse_publish(word).unwrap());
        let line = asked("web", &annotated(&[]), Some(&Mode::Auto), &ports).unwrap_err().to_string();
        assert!(line.contains("8000-8010:80-90 and 127.0.0.1:8010:1 overlap"), "{line}");
    }
}
