//! `bundle`: from an image, a root file system or this machine's own system to what `run` takes.
//!
//! What unpacks works as root over all ids that are the caller's, and the container gets the same ids. By default
//! the layers go into the store, and config.json names them: bundles of the same image share them, and making a
//! second one takes no time. `--flat` makes a bundle that any runtime can run.

use super::print;
use crate::bundle::clean;
use crate::cli;
use crate::host::cgroup::{Hierarchy, hierarchy};
use crate::host::namespaces::in_child_userns;
use crate::image::config::{ImageConfig, complete_env};
use crate::image::draft::Draft;
use crate::image::maps::Maps;
use crate::image::merged::Merged;
use crate::image::root::{Layout, Root};
use crate::image::source::{Real, Source};
use crate::image::store::{self, Store};
use crate::image::user;
use crate::launch::unshare::in_own_maps;
use crate::plan::degrade::{Degradation, Policy};
use crate::report::{Act, Failure, warn};
use crate::spec::{Capabilities, Spec, default_spec};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What engines give a container: images are made and tried with these. In a user namespace they are powers over
/// the caller's own ids.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// More than any real /etc/passwd has.
const MAX_PASSWD: u64 = 4 << 20;

/// What a container of this machine's system does not see of it.
const NOT_OF_THE_HOST: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// `bryo bundle`.
pub fn bundle(flags: &cli::Bundle, policy: &Policy) -> Result<u8, Failure> {
    if flags.prune {
        let root = store_root(flags)?;
        return in_own_maps("the store of layers", policy, || {
            let removed = store::prune(&root)?;
            Ok(print(&format!("{removed} layer{} removed\n", if removed == 1 { "" } else { "s" })))
        });
    }
    let source = Source::parse(&flags.from, &Real).map_err(|cause| {
        Failure::new(format!("cannot read --from {}", flags.from), cause)
            .code("IMG-SOURCE")
            .fix("name oci:PATH[:REF], docker-archive:FILE[:REF], a tar file, a directory, or host")
    })?;
    refuse(flags, &source)?;
    let dir = absolute(&flags.dir)?;
    let outside = user_namespace();
    in_own_maps(&format!("bundle {}", flags.dir.display()), policy, || {
        let maps = Maps::read(outside != user_namespace())?;
        Work { flags, policy, maps, draft: Draft::begin(&dir)? }.make(&source)
    })
}

/// What makes no sense together.
fn refuse(flags: &cli::Bundle, source: &Source) -> Result<(), Failure> {
    let act = || format!("cannot make bundle {}", flags.dir.display());
    match source {
        Source::Directory(path) if flags.flat => {
            Err(Failure::new(act(), "a directory is used where it is and not unpacked: invalid argument")
                .code("BUNDLE-FLAT")
                .fix(format!(
                    "leave --flat out, or copy {} to {}",
                    path.display(),
                    flags.dir.join("rootfs").display()
                )))
        }
        Source::Host if flags.flat => {
            Err(Failure::new(act(), "this machine's own system is not unpacked: invalid argument")
                .code("BUNDLE-FLAT")
                .fix("leave --flat out"))
        }
        Source::Directory(path) => {
            let wrong = |what: &str, fix: String| {
                Err(Failure::new(act(), format!("{} is {what}: invalid argument", path.display()))
                    .code("IMG-SOURCE")
                    .fix(fix))
            };
            if path.join("oci-layout").is_file() {
                return wrong(
                    "an image layout, not a root file system",
                    format!("--from oci:{}", path.display()),
                );
            }
            if path.join("config.json").is_file() && path.join("rootfs").is_dir() {
                return wrong("a bundle", format!("--from {}", path.join("rootfs").display()));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn store_root(flags: &cli::Bundle) -> Result<PathBuf, Failure> {
    match &flags.store {
        Some(root) => absolute(root),
        None => store::default_root(
            nix::unistd::geteuid().is_root() && !in_child_userns(),
            std::env::var_os("XDG_DATA_HOME"),
            std::env::var_os("HOME"),
        ),
    }
}

/// An absolute path that can be in a config.json.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let act = || format!("cannot use directory {}", path.display());
    let absolute = clean(&std::path::absolute(path).act(act)?);
    if absolute.to_str().is_none() {
        return Err(Failure::new(act(), "its path is not UTF-8: invalid argument").fix("rename it"));
    }
    Ok(absolute)
}

fn user_namespace() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/user").ok().map(|meta| meta.ino())
}

struct Work<'a> {
    flags: &'a cli::Bundle,
    policy: &'a Policy,
    maps: Maps,
    draft: Draft,
}

impl Work<'_> {
    fn make(self, source: &Source) -> Result<u8, Failure> {
        let mut spec = self.template();
        let store = match source {
            Source::Oci { .. } | Source::DockerArchive { .. } | Source::Tar(_) | Source::Stdin
                if !self.flags.flat =>
            {
                Some(Store::open(&store_root(self.flags)?, self.maps.name.clone())?)
            }
            _ => None,
        };
        match source {
            Source::Host => self.host(&mut spec),
            Source::Directory(path) => {
                let layers = vec![absolute(path)?];
                self.configure(&mut spec, &Root { layers, config: None, degradations: Vec::new() })?;
            }
            _ => {
                let (from, maps, draft) = (&self.flags.from, &self.maps, &self.draft);
                let root = Layout { from, maps, draft, store: store.as_ref() }.lay_out(source)?;
                self.tell(&root.degradations)?;
                self.configure(&mut spec, &root)?;
                // Before there is the bundle, so that its layers are never thought to be unused.
                store.iter().try_for_each(|store| store.refer(self.draft.dir(), &root.layers))?;
            }
        }
        let text = spec.text().map_err(|error| Failure::new(self.act(), error.to_string()))?;
        self.draft.finish(&text)?;
        Ok(0)
    }

    fn act(&self) -> String {
        format!("cannot make bundle {}", self.flags.dir.display())
    }

    fn tell(&self, degradations: &[Degradation]) -> Result<(), Failure> {
        self.policy.check(&format_args!("bundle {}", self.flags.dir.display()), degradations)?;
        degradations.iter().filter_map(Degradation::warning).for_each(|line| warn(&line));
        Ok(())
    }

    /// What `bryo spec` would write for these ids, with the powers that images expect.
    fn template(&self) -> Spec {
        let mut spec = default_spec(&self.maps.kind, hierarchy() == Hierarchy::Unified);
        spec.root.readonly = false;
        spec.process.terminal = self.flags.tty;
        spec.process.capabilities = Capabilities::all(&CAPABILITIES);
        // An image may rely on its set-user-ID programs, and a container of it ends up with no more than these
        // capabilities.
        spec.process.no_new_privileges = false;
        // Those of the caller: an image says nothing of limits.
        spec.process.rlimits.clear();
        spec.process.env.clear();
        spec
    }

    fn configure(&self, spec: &mut Spec, root: &Root) -> Result<(), Failure> {
        let command = &self.flags.command;
        match &root.config {
            Some(config) => config.apply(spec, command).iter().for_each(|remark| warn(remark)),
            None if command.is_empty() => {}
            None => spec.process.args.clone_from(command),
        }
        let own = [self.draft.rootfs()];
        let files = Merged::open(if root.layers.is_empty() { &own } else { &root.layers });
        let files = files.map_err(|cause| Failure::new(self.act(), cause))?;
        self.user(spec, root, &files)?;
        for volume in root.config.iter().flat_map(ImageConfig::volumes) {
            let act = || format!("cannot make the volume {volume:?} of image {}", self.flags.from);
            files.make_directory(volume, &own[0]).act(act)?;
        }
        if !root.layers.is_empty() {
            let layers = serde_json::to_string(&root.layers);
            let layers = layers.map_err(|error| Failure::new(self.act(), error.to_string()))?;
            spec.annotations.insert("io.bryo.rootfs.layers".into(), layers);
            spec.annotations.insert("io.bryo.rootfs.overlay".into(), "overlay".into());
        }
        Ok(())
    }

    fn user(&self, spec: &mut Spec, root: &Root, files: &Merged) -> Result<(), Failure> {
        let act = || format!("cannot find the user of image {}", self.flags.from);
        let wanted = root.config.as_ref().map_or("", ImageConfig::user);
        let text = |path| files.text(path, MAX_PASSWD);
        let found = text("/etc/passwd").and_then(|passwd| user::find(wanted, &passwd, &text("/etc/group")?));
        let mut found = found.map_err(|cause| {
            Failure::new(act(), cause).code("IMG-USER").fix("have the image name a user that it has")
        })?;
        if self.maps.single && !found.user.additional_gids.is_empty() {
            // There is nobody else to be; that there is a single id has been said.
            found.user.additional_gids.clear();
        }
        spec.process.user = found.user;
        complete_env(&mut spec.process.env, &found.home, spec.process.terminal);
        Ok(())
    }

    /// A shell as the user has it, over a system that stays as it is.
    fn host(&self, spec: &mut Spec) {
        let process = &mut spec.process;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = variable("HOME").unwrap_or_else(|| "/".into());
        process.args = match self.flags.command.as_slice() {
            [] => vec![variable("SHELL").unwrap_or_else(|| "/bin/sh".into())],
            command => command.to_vec(),
        };
        // Nobody starts a server from one's own system without saying so.
        process.terminal = self.flags.tty || self.flags.command.is_empty();
        let kept = ["PATH", "TERM", "LANG", "SHELL"];
        let kept = kept.into_iter().filter(|name| *name != "TERM" || process.terminal);
        process.env = kept.filter_map(|name| Some(format!("{name}={}", variable(name)?))).collect();
        complete_env(&mut process.env, &home, process.terminal);
        let here = std::env::current_dir().ok().and_then(|dir| dir.into_os_string().into_string().ok());
        let seen = |dir: &String| !NOT_OF_THE_HOST.iter().any(|hidden| Path::new(dir).starts_with(hidden));
        process.cwd = [here, Some(home)].into_iter().flatten().find(seen).unwrap_or_else(|| "/".into());
        spec.annotations.insert("io.bryo.rootfs.host".into(), "true".into());
        spec.annotations.insert("io.bryo.rootfs.ephemeral".into(), "true".into());
    }
}
