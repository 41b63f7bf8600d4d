//! `bundle`: from an image, a root file system or this machine's own system to what `run` takes.
//!
//! What unpacks works as root over all ids that are the caller's, and the container gets the same ids. By default
//! the layers go into the store, and config.json names them: bundles of the same image share them, and making a
//! second one takes no time. `--flat` makes a bundle that any runtime can run.

use super::print;
use crate::bundle::clean;
use crate::cli;
use crate::host::cgroup::{Hierarchy, hierarchy};
use crate::host::idmap::{self, IdRange};
use crate::host::namespaces::in_child_userns;
use crate::image::archive::Archive;
use crate::image::config::{ImageConfig, complete_env};
use crate::image::digest::Digest;
use crate::image::draft::Draft;
use crate::image::files::Directory;
use crate::image::layer::Reader;
use crate::image::merged::Merged;
use crate::image::oci::Platform;
use crate::image::progress::{Progress, Watched};
use crate::image::source::{Real, Source};
use crate::image::store::{self, Store};
use crate::image::unpack::{self, Counts, Form, Ids};
use crate::image::{Image, docker_archive, oci, user};
use crate::launch::unshare::in_own_maps;
use crate::plan::degrade::{Degradation, Policy};
use crate::report::{Act, Failure, io_text, warn};
use crate::spec::{Capabilities, Spec, SpecKind, default_spec};
use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

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

/// The ids that there are, and the form of everything that depends on them.
struct Maps {
    kind: SpecKind,
    /// There is one id, and everything is its.
    single: bool,
    /// The name in the store.
    name: String,
}

impl Maps {
    /// Those of this process. `entered`: they are those that the container is to have, too.
    fn read(entered: bool) -> Result<Maps, Failure> {
        let act = || "cannot read the maps of our ids";
        let [uids, gids] =
            [idmap::outside("/proc/self/uid_map").act(act)?, idmap::outside("/proc/self/gid_map").act(act)?];
        let name = if uids == gids { spell(&uids) } else { format!("u{}_g{}", spell(&uids), spell(&gids)) };
        let single = |ranges: &[IdRange]| matches!(ranges, [IdRange { count: 1, .. }]);
        let kind = match (&uids[..], &gids[..]) {
            ([uid, subuids @ ..], [gid, subgids @ ..]) if entered => SpecKind::Subids {
                uid: uid.start,
                gid: gid.start,
                subuids: subuids.to_vec(),
                subgids: subgids.to_vec(),
            },
            _ => SpecKind::Root,
        };
        Ok(Maps { kind, single: single(&uids) || single(&gids), name })
    }
}

/// `1000+1_100000+65536`, as far as that is a name.
fn spell(ranges: &[IdRange]) -> String {
    let name: Vec<String> = ranges.iter().map(|range| format!("{}+{}", range.start, range.count)).collect();
    let name = name.join("_");
    if name.len() > 100 { Digest::of(name.as_bytes()).hex().to_string() } else { name }
}

struct Work<'a> {
    flags: &'a cli::Bundle,
    policy: &'a Policy,
    maps: Maps,
    draft: Draft,
}

/// A root file system that is there.
struct Root {
    /// The layers, from the lowest on; none where everything is in the bundle's own rootfs.
    layers: Vec<PathBuf>,
    config: Option<ImageConfig>,
    /// Held until the bundle is complete.
    store: Option<Store>,
}

impl Work<'_> {
    fn make(self, source: &Source) -> Result<u8, Failure> {
        let root = match source {
            Source::Host => return self.host(),
            Source::Directory(path) => Root { layers: vec![absolute(path)?], config: None, store: None },
            _ => self.unpack(source)?,
        };
        let mut spec = self.template();
        self.configure(&mut spec, &root)?;
        if let Some(store) = &root.store {
            store.refer(self.draft.dir(), &root.layers)?;
        }
        let dir = self.draft.dir().to_path_buf();
        let done = self.finish(&spec);
        if let (Some(store), Err(_)) = (&root.store, &done) {
            store.forget(&dir);
        }
        done
    }

    fn finish(self, spec: &Spec) -> Result<u8, Failure> {
        let text = spec.text().map_err(|error| self.failure("BUNDLE-CONFIG", error.to_string()))?;
        self.draft.finish(&text)?;
        Ok(0)
    }

    fn failure(&self, code: &'static str, cause: impl Into<String>) -> Failure {
        Failure::new(format!("cannot make bundle {}", self.flags.dir.display()), cause).code(code)
    }

    /// What could not be read of an image.
    fn invalid(&self, cause: impl Into<String>) -> Failure {
        Failure::new(format!("cannot read image {}", self.flags.from), cause).code("IMG-INVALID")
    }

    // -----------------------------------------------------------------------------------------------------
    // The root file system

    fn unpack(&self, source: &Source) -> Result<Root, Failure> {
        let store = match self.flags.flat {
            true => None,
            false => Some(Store::open(&store_root(self.flags)?, self.maps.name.clone())?),
        };
        let image = self.image(source)?;
        let mut layers = Vec::new();
        let mut counts = Counts::default();
        match &image {
            Some(image) => {
                let parts = image.layers.iter().map(|layer| image.files.open(&layer.name));
                let parts = parts.collect::<Result<Vec<_>, _>>().map_err(|cause| self.invalid(cause))?;
                let progress = self.progress(Some(parts.iter().map(|part| part.size()).sum()));
                for (layer, part) in image.layers.iter().zip(parts) {
                    let size = part.size();
                    let input =
                        Input { what: &layer.name, blob: layer.blob.clone(), diff_id: Some(&layer.diff_id) };
                    let read = || Ok(Watched::new(part, progress.clone()));
                    match self.layer(store.as_ref(), &input, read, &mut counts)? {
                        Laid::Fresh(path) => layers.extend(path),
                        Laid::Shared(path) => {
                            progress.borrow_mut().add(size);
                            layers.push(path);
                        }
                    }
                }
            }
            None => {
                let (file, size) = self.tar(source)?;
                let input = Input { what: &self.flags.from, blob: None, diff_id: None };
                let progress = self.progress(size);
                if let Laid::Fresh(path) =
                    self.layer(store.as_ref(), &input, || Ok(Watched::new(file, progress)), &mut counts)?
                {
                    layers.extend(path);
                }
            }
        }
        self.told(counts.degradations())?;
        Ok(Root { layers, config: image.map(|image| image.config), store })
    }

    fn told(&self, degradations: Vec<Degradation>) -> Result<(), Failure> {
        self.policy.check(&format_args!("bundle {}", self.flags.dir.display()), &degradations)?;
        degradations.iter().filter_map(Degradation::warning).for_each(|line| warn(&line));
        Ok(())
    }

    fn progress(&self, total: Option<u64>) -> Rc<RefCell<Progress>> {
        Rc::new(RefCell::new(Progress::new(self.flags.from.clone(), total)))
    }

    /// The image; none for a plain tar.
    fn image(&self, source: &Source) -> Result<Option<Image>, Failure> {
        let host = Platform::host();
        let image = match source {
            Source::Oci { path, reference } => Directory::open(path)
                .and_then(|files| oci::image(Box::new(files), reference.as_deref(), &host)),
            Source::DockerArchive { path, reference } => open(path)
                .and_then(|file| Archive::open(file, &self.draft.scratch()))
                .and_then(|files| docker_archive::image(Box::new(files), reference.as_deref(), &host)),
            _ => return Ok(None),
        };
        let image = image.map_err(|cause| self.invalid(cause))?;
        if let Some(other) = image.config.architecture().filter(|name| *name != host.architecture) {
            warn(&format!(
                "IMG-PLATFORM: the image is for {other}, and this machine is {}",
                host.architecture
            ));
        }
        Ok(Some(image))
    }

    /// A tar of a root file system, and its size.
    fn tar(&self, source: &Source) -> Result<(File, Option<u64>), Failure> {
        let file = match source {
            Source::Tar(path) => open(path),
            _ => {
                std::io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(|error| io_text(&error))
            }
        };
        let file = file.map_err(|cause| self.invalid(cause))?;
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        Ok((file, size))
    }

    /// Lays out one layer: in the store, or above those before it in the bundle.
    fn layer<R: Read>(
        &self,
        store: Option<&Store>,
        input: &Input<'_>,
        open: impl FnOnce() -> std::io::Result<R>,
        counts: &mut Counts,
    ) -> Result<Laid, Failure> {
        let Some(store) = store else {
            let rootfs = self.draft.rootfs();
            let tree = File::open(&rootfs).act(|| format!("cannot open {}", rootfs.display()))?;
            self.read(input, open, &tree.into(), Form::Flat, counts)?;
            return Ok(Laid::Fresh(None));
        };
        let partial = match (store.begin(input.diff_id)?, input.diff_id) {
            (None, Some(diff_id)) => return Ok(Laid::Shared(store.layer(diff_id))),
            (None, None) => return Err(self.failure("STORE-ACCESS", "there is no place to unpack to")),
            (Some(partial), _) => partial,
        };
        let form = Form::Layer { userxattr: in_child_userns() };
        let diff_id = self.read(input, open, &partial.tree()?, form, counts)?;
        store.complete(partial, &diff_id).map(|path| Laid::Fresh(Some(path)))
    }

    fn read<R: Read>(
        &self,
        input: &Input<'_>,
        open: impl FnOnce() -> std::io::Result<R>,
        tree: &OwnedFd,
        form: Form,
        counts: &mut Counts,
    ) -> Result<Digest, Failure> {
        let wrong = |cause: String| self.invalid(format!("{}: {cause}", input.what));
        let reader = open().and_then(|file| Reader::new(file, input.blob.clone(), input.diff_id.cloned()));
        let mut reader = reader.map_err(|error| wrong(io_text(&error)))?;
        let ids = if self.maps.single { Ids::single() } else { Ids::here()? };
        counts.add(unpack::unpack(&mut reader, tree.as_fd(), form, &ids, &mut |_| ())?);
        reader.finish().map_err(wrong)
    }

    // -----------------------------------------------------------------------------------------------------
    // The configuration

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
        let files = files.map_err(|cause| self.invalid(cause))?;
        self.user(spec, root, &files)?;
        for volume in root.config.iter().flat_map(ImageConfig::volumes) {
            let act = || format!("cannot make the volume {volume:?} of image {}", self.flags.from);
            files.make_directory(volume, &own[0]).act(act)?;
        }
        if !root.layers.is_empty() {
            spec.annotations.insert("io.bryo.rootfs.layers".into(), self.paths(&root.layers)?);
            spec.annotations.insert("io.bryo.rootfs.overlay".into(), "overlay".into());
        }
        Ok(())
    }

    /// The list of layers; where one hides all below it, only from there on.
    fn paths(&self, layers: &[PathBuf]) -> Result<String, Failure> {
        let userxattr = in_child_userns();
        let hides = |path: &PathBuf| {
            let tree = File::open(path).act(|| format!("cannot open {}", path.display()))?;
            unpack::hides_all_below(tree.as_fd(), userxattr)
                .act(|| format!("cannot look at {}", path.display()))
        };
        let mut from = layers.len() - 1;
        while from > 0 && !hides(&layers[from])? {
            from -= 1;
        }
        serde_json::to_string(&layers[from..])
            .map_err(|error| self.failure("BUNDLE-CONFIG", error.to_string()))
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

    // -----------------------------------------------------------------------------------------------------
    // This machine's own system

    /// A shell as the user has it, over a system that stays as it is.
    fn host(self) -> Result<u8, Failure> {
        let mut spec = self.template();
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
        self.finish(&spec)
    }
}

/// What is known of a layer before it is read.
struct Input<'a> {
    what: &'a str,
    blob: Option<(u64, Digest)>,
    diff_id: Option<&'a Digest>,
}

/// Where a layer is.
enum Laid {
    /// Unpacked; in the store, or in the bundle itself.
    Fresh(Option<PathBuf>),
    /// In the store since another bundle.
    Shared(PathBuf),
}

fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| io_text(&error))
}
