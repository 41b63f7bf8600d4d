//! Root file systems of layers: what is read only lies below, changes go into a layer above it.
//!
//! ```text
//!     --ephemeral, io.bryo.rootfs.ephemeral     changes go into memory and vanish with the container
//!     --overlay DIR, io.bryo.rootfs.overlay     changes go into DIR/upper; the next run finds them there
//!     io.bryo.rootfs.layers                     a list of directories, lowest first, beneath what root.path names
//!     io.bryo.rootfs.host                       this machine's own system is what lies below
//! ```
//!
//! There are three means, and each is better than the next: the kernel's overlay, fuse-overlayfs, and a copy.
//! Only the kernel knows whether it has an overlay for us: it depends on the version, the file systems of all
//! layers, what is mounted beneath them and how deep they are stacked already. So the errno decides. One thing is
//! known before: files whose owner does not exist in the container cannot be changed by anybody in it, and only
//! fuse-overlayfs and a copy can make them root's.
//!
//! Nothing of this reaches the host: what is mounted is mounted in the container's own mount namespace, over the
//! directory that root.path names.
//!
//! What a foreign image may hold to mislead an overlay does nothing. Marks in `trusted.*` do not count beneath
//! `userxattr`, and could only be put there by the machine's root. Marks in `user.overlay.*` can hide files of the
//! image's own layers (`opaque`, `whiteout`), which the image could leave out as well; redirects and metacopies,
//! which name other files, are off wherever we mount, and a directory or file that has one is refused (EPERM) when
//! it is used. Neither could name anything outside of the layers.

use super::degrade::Degradation;
use super::step::{
    Bind, Branch, Fallback, Layers, Links, NO_BRANCH, NO_OVERLAY, NOT_SERVED, Op, Properties, Served, Step,
    Upper,
};
use super::{Context, Request, c};
use crate::bundle::clean;
use crate::host::rootfs::{Kind, Lower, Roots, Wanted};
use crate::report::Failure;
use crate::sys::mount::{ATTR_NODEV, ATTR_RDONLY, Attr};
use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;
use std::ffi::CString;
use std::path::{Path, PathBuf};

const EPHEMERAL: &str = "io.bryo.rootfs.ephemeral";
const OVERLAY: &str = "io.bryo.rootfs.overlay";
const LAYERS: &str = "io.bryo.rootfs.layers";
const HOST: &str = "io.bryo.rootfs.host";

/// What is never taken from this machine's own system, with the mode of the empty directory in its place. Programs
/// expect to be able to write to /tmp.
const FRESH: [(&str, u32); 5] =
    [("/proc", 0o555), ("/sys", 0o555), ("/dev", 0o755), ("/run", 0o755), ("/tmp", 0o1777)];

/// Where changes are to go, as a flag or an annotation says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    Vanish,
    Kept(PathBuf),
}

/// A root file system of layers that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub changes: Changes,
    /// What is to be read about it.
    pub wanted: Wanted,
}

/// Reads what flags and annotations ask for; `None` for a plain root file system.
///
/// # Errors
/// An annotation that makes no sense, or layers that nobody may write to and that are not to be read only.
pub fn asked(spec: &Spec, bundle_dir: &Path, request: &Request) -> Result<Option<Asked>, Failure> {
    let annotations = spec.annotations().as_ref();
    let annotation = |name: &str| annotations.and_then(|all| all.get(name)).map(String::as_str);
    if request.changes.is_none() && [EPHEMERAL, OVERLAY, LAYERS, HOST].iter().all(|n| annotation(n).is_none())
    {
        return Ok(None);
    }
    let act = || format!("cannot lay out the root file system of container {}", request.id);
    let truth = |name: &str| match annotation(name) {
        None | Some("false" | "") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(Failure::new(
            act(),
            format!("annotation {name} is {other:?}, not true or false: invalid argument"),
        )),
    };
    let absolute = |path: &str| clean(&bundle_dir.join(path));
    let kept = annotation(OVERLAY).filter(|dir| !dir.is_empty());
    let by_annotation = match (truth(EPHEMERAL)?, kept) {
        (true, Some(_)) if request.changes.is_none() => {
            let cause =
                format!("annotations {EPHEMERAL} and {OVERLAY} contradict each other: invalid argument");
            return Err(Failure::new(act(), cause).fix("remove one of them, or use --ephemeral or --overlay"));
        }
        (true, _) => Some(Changes::Vanish),
        (false, Some(dir)) => Some(Changes::Kept(absolute(dir))),
        (false, None) => None,
    };
    let layers: Option<Vec<String>> =
        annotation(LAYERS).filter(|text| !text.is_empty()).map(serde_json::from_str).transpose().map_err(
            |error| Failure::new(act(), format!("annotation {LAYERS} is no list of directories: {error}")),
        )?;
    let lower = match (layers.filter(|layers| !layers.is_empty()), truth(HOST)?) {
        (Some(_), true) => {
            let cause = format!("annotations {LAYERS} and {HOST} contradict each other: invalid argument");
            return Err(Failure::new(act(), cause).fix("remove one of them"));
        }
        (Some(layers), false) => Lower::Layers(layers.iter().map(|dir| absolute(dir)).collect()),
        (None, true) => Lower::Host,
        (None, false) => Lower::Root,
    };
    let root = spec.root().as_ref().ok_or_else(|| Failure::new(act(), "config.json: root is missing"))?;
    let changes = match request.changes.clone().or(by_annotation) {
        Some(changes) => changes,
        None if lower == Lower::Root => return Ok(None),
        // What has to be made in it for mounts must not be made in layers that others share.
        None if root.readonly() == Some(true) => Changes::Vanish,
        None => {
            let cause = "its layers are shared with others, so changes need a place of their own: read-only file system";
            return Err(Failure::new(act(), cause)
                .fix("--ephemeral or --overlay DIR, or root.readonly in config.json"));
        }
    };
    let kept = match &changes {
        Changes::Vanish => None,
        Changes::Kept(dir) => Some(dir.clone()),
    };
    let place = clean(&bundle_dir.join(root.path()));
    Ok(Some(Asked { changes, wanted: Wanted { place, lower, kept } }))
}

/// Plans the root file system.
///
/// # Errors
/// A path with a zero byte, or a host's system that there are no means for.
pub fn steps(
    asked: &Asked,
    context: &Context<'_>,
    own_parent: bool,
    degradations: &mut Vec<Degradation>,
) -> Result<Vec<Step>, Failure> {
    let act = || format!("cannot lay out the root file system of container {}", context.container);
    let none = Roots::default();
    let roots = context.facts.roots.as_ref().unwrap_or(&none);
    let user = context.in_user_namespace();
    let stack = asked.wanted.stack(roots.root_is_empty);
    let layers = Layers {
        place: c(&asked.wanted.place, act)?,
        lower: stack.iter().map(|dir| c(dir, act)).collect::<Result<_, _>>()?,
        upper: match &asked.changes {
            Changes::Vanish => Upper::Memory,
            Changes::Kept(dir) => Upper::Kept(c(dir, act)?),
        },
        userxattr: user,
        squash: context.idmap.foreign_owner(roots.owner).is_some(),
        nodev: context.nodev,
        own_parent,
    };
    let planner = Planner { asked, roots, context, layers, user };
    if roots.copied && asked.wanted.lower != Lower::Host {
        // Made by an earlier run, and what has changed since is in it.
        degradations.push(Degradation::same(
            "FS-OVERLAY",
            "a layer over the root file system",
            "the copy of it that an earlier run has made",
            "an overlay was not to be had then",
        ));
        return Ok(vec![Op::Copied(planner.layers).into()]);
    }
    match asked.wanted.lower {
        Lower::Host => planner.host(degradations),
        Lower::Root | Lower::Layers(_) => planner.stack(degradations),
    }
}

struct Planner<'a> {
    asked: &'a Asked,
    roots: &'a Roots,
    context: &'a Context<'a>,
    layers: Layers,
    /// The container is in a user namespace other than the machine's.
    user: bool,
}

impl Planner<'_> {
    fn act(&self) -> String {
        format!("cannot lay out the root file system of container {}", self.context.container)
    }

    /// By fuse-overlayfs, where there is one that we could use.
    fn served(&self, empty: Vec<(CString, u32)>) -> Option<Op> {
        let usable = self.roots.fuse_device && self.out_of_sight();
        let program = self.roots.fuse_overlayfs.clone().filter(|_| usable)?;
        let root_inside = self
            .context
            .idmap
            .maps()
            .is_some_and(|_| self.context.idmap.maps_uid(0) && self.context.idmap.maps_gid(0));
        Some(Op::Served(Served {
            layers: self.layers.clone(),
            container: self.context.container.into(),
            program,
            empty,
            root_inside,
            own_userns: self.context.namespaces.has(CloneFlags::CLONE_NEWUSER),
        }))
    }

    /// Nobody in the container can see who serves it. That process has the machine's files open and is in the user
    /// namespace of the container, whose root could look into it.
    fn out_of_sight(&self) -> bool {
        self.context.namespaces.is_new(CloneFlags::CLONE_NEWPID)
    }

    /// Why there is no fuse-overlayfs, and what would bring it.
    fn unserved(&self) -> (&'static str, &'static str, &'static str) {
        if !self.out_of_sight() {
            return (
                "FS-FUSE",
                "the container would see fuse-overlayfs and could get at the host's files by it",
                "give the container a pid namespace of its own",
            );
        }
        if self.roots.fuse_overlayfs.is_none() {
            return ("FS-OVERLAY", "fuse-overlayfs is not installed", "install fuse-overlayfs");
        }
        ("FS-FUSE", "/dev/fuse is not there for us", "load the module fuse, and let the user open /dev/fuse")
    }

    /// What it means that most files belong to somebody who does not exist inside.
    fn foreign(&self, served: bool) -> Option<Degradation> {
        let found = self.context.idmap.foreign_owner(self.roots.owner)?;
        if served {
            let got = "all files shown as root's, by fuse-overlayfs";
            return Some(Degradation { got: got.into(), fix: None, ..found.noted() });
        }
        let (_, because, fix) = self.unserved();
        let because = format!("{}, so nobody inside may change most files, and {because}", found.because);
        Some(Degradation { because, fix: Some(format!("{fix}, or map uid {}", self.roots.owner)), ..found })
    }

    /// One overlay over all layers.
    fn stack(&self, degradations: &mut Vec<Degradation>) -> Result<Vec<Step>, Failure> {
        let foreign = self.layers.squash;
        let served = self.served(Vec::new());
        degradations.extend(self.foreign(served.is_some()));
        let mut means = Vec::new();
        let beneath = if self.user { Vec::new() } else { self.submounts(degradations)? };
        let overlay = (Op::Overlay(self.layers.clone(), beneath), NO_OVERLAY);
        match served {
            Some(served) if foreign => means.extend([(served, NOT_SERVED), overlay]),
            Some(served) => means.extend([overlay, (served, NOT_SERVED)]),
            None => means.push(overlay),
        }
        means.push((Op::Copied(self.layers.clone()), &[]));
        Ok(vec![in_turn(means, |op| self.cost(op))])
    }

    /// What it costs that it has to be this.
    fn cost(&self, op: &Op) -> Degradation {
        let wanted = "an overlay of the kernel's";
        match op {
            Op::Copied(_) => {
                let served = self.served(Vec::new()).is_some();
                let (code, because, fix) = if served {
                    (
                        "FS-OVERLAY",
                        "fuse-overlayfs does not do it either",
                        "see that fuse-overlayfs runs: fuse-overlayfs --version",
                    )
                } else {
                    self.unserved()
                };
                let because = format!("the kernel has none for these layers and this user, and {because}");
                Degradation::weaker(code, wanted, "a copy of the root file system", because).fix(fix)
            }
            Op::Served(_) => {
                let because = "the kernel has none for these layers and this user";
                Degradation::same("FS-OVERLAY", wanted, "fuse-overlayfs", because)
            }
            _ => {
                let because =
                    "fuse-overlayfs does not serve it, so nobody inside may change files of other owners";
                Degradation::weaker("FS-OVERLAY", "fuse-overlayfs", wanted, because)
                    .fix("see that fuse-overlayfs runs: fuse-overlayfs --version")
            }
        }
    }

    /// An overlay shows nothing of what is mounted beneath its layers. Where the kernel lets us make one all the
    /// same, these are shown as they are, but read only.
    fn submounts(&self, degradations: &mut Vec<Degradation>) -> Result<Vec<Bind>, Failure> {
        let stack = self.asked.wanted.stack(self.roots.root_is_empty);
        let mut binds = Vec::new();
        for at in self.mounted_beneath(&stack) {
            let Some(inside) = stack.iter().find_map(|dir| at.strip_prefix(dir).ok()) else { continue };
            let inside = Path::new("/").join(inside);
            degradations.push(read_only(at, "it is another file system, mounted beneath a layer"));
            binds.push(self.shown(at, &inside)?);
        }
        Ok(binds)
    }

    /// What is mounted beneath one of these directories, but not what is mounted beneath that again.
    fn mounted_beneath(&self, dirs: &[&Path]) -> Vec<&Path> {
        let mut found: Vec<&Path> = Vec::new();
        let mounts = self.roots.submounts.iter().map(PathBuf::as_path);
        for at in mounts.filter(|at| dirs.iter().any(|dir| at != dir && at.starts_with(dir))) {
            // They are sorted, so what is above comes before.
            if !found.iter().any(|above| at.starts_with(above)) {
                found.push(at);
            }
        }
        found
    }

    fn shown(&self, source: &Path, at: &Path) -> Result<Bind, Failure> {
        let all =
            Attr { set: ATTR_RDONLY | if self.context.nodev { ATTR_NODEV } else { 0 }, ..Attr::default() };
        Ok(Bind {
            source: c(source, || self.act())?,
            at: c(at, || self.act())?,
            recursive: true,
            properties: Properties { all, ..Properties::default() },
            links: Links::default(),
            ids: None,
            apart: false,
        })
    }

    /// This machine's own system. Where its files belong to nobody inside, fuse-overlayfs takes `/` whole; else
    /// each directory at the top gets an overlay of its own, since the kernel makes none over mounts that are
    /// locked together, as all of a new mount namespace are (FS-LOWER).
    fn host(&self, degradations: &mut Vec<Degradation>) -> Result<Vec<Step>, Failure> {
        let act = || self.act();
        let empty: Vec<_> =
            FRESH.iter().map(|(at, mode)| Ok((c(at, act)?, *mode))).collect::<Result<_, Failure>>()?;
        let served = if self.layers.squash { self.served(empty.clone()) } else { None };
        degradations.extend(self.foreign(served.is_some()));
        if let Some(served) = served {
            return Ok(vec![served.into()]);
        }
        let mut steps = vec![Op::Trunk { layers: self.layers.clone(), empty }.into()];
        for (name, kind) in &self.roots.top {
            let path = Path::new("/").join(name);
            if FRESH.iter().any(|(fresh, _)| path == Path::new(fresh)) {
                continue;
            }
            match kind {
                Kind::Directory => steps.extend(self.branch(&path, degradations)?),
                Kind::Link(target) => {
                    steps.push(Op::Symlink { at: c(&path, act)?, target: c(target, act)? }.into());
                }
                Kind::File => steps.push(Op::Bind(self.shown(&path, &path)?).into()),
            }
        }
        Ok(steps)
    }

    /// One directory at the top of the host.
    fn branch(&self, path: &Path, degradations: &mut Vec<Degradation>) -> Result<Vec<Step>, Failure> {
        let branch = Branch {
            at: c(path, || self.act())?,
            userxattr: self.layers.userxattr,
            squash: self.layers.squash,
            nodev: self.context.nodev,
        };
        let because = "the kernel makes no overlay over it: other file systems are mounted beneath it, or its own is of another kind";
        let step = Step {
            op: Op::Branch(branch),
            or: vec![Fallback {
                on: NO_BRANCH,
                op: Op::Bind(self.shown(path, path)?),
                cost: read_only(path, because),
            }],
        };
        let mut steps = vec![step];
        for at in self.mounted_beneath(&[path]).into_iter().filter(|_| !self.user) {
            degradations
                .push(read_only(at, "it is another file system, mounted beneath a directory at the top"));
            steps.push(Op::Bind(self.shown(at, at)?).into());
        }
        Ok(steps)
    }
}

/// Something of the lower layers that has no layer above it.
fn read_only(at: &Path, because: &str) -> Degradation {
    let at = at.display();
    Degradation::weaker(
        "FS-LOWER",
        format!("a layer over {at}"),
        format!("{at} as it is, read only"),
        because,
    )
    .fix(format!("have a mount of the configuration's own at {at}, or none of the host's"))
}

/// The first of these means, or the next where its errnos say that it is not to be had.
fn in_turn(means: Vec<(Op, &'static [i32])>, cost: impl Fn(&Op) -> Degradation) -> Step {
    let mut means = means.into_iter();
    let (op, mut on) = means.next().unwrap_or((Op::Nothing, &[]));
    let mut or = Vec::new();
    for (op, next) in means {
        or.push(Fallback { on, cost: cost(&op), op });
        on = next;
    }
    Step { op, or }
}
