//! The root file system of a bundle: an image or a tar, unpacked into the store or into the bundle itself.

use super::archive::Archive;
use super::config::ImageConfig;
use super::digest::Digest;
use super::draft::Draft;
use super::files::Directory;
use super::layer::Reader;
use super::maps::Maps;
use super::merged::Merged;
use super::oci::Platform;
use super::progress::{Progress, Watched};
use super::source::Source;
use super::store::Store;
use super::unpack::{self, Counts, Form};
use super::{Image, docker_archive, oci};
use crate::plan::degrade::Degradation;
use crate::report::{Act, Failure, io_text, warn};
use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// One that is there.
pub struct Root {
    /// The layers, from the lowest on; none where everything is in the bundle's own rootfs.
    pub layers: Vec<PathBuf>,
    /// What the image says; a plain root file system says nothing.
    pub config: Option<ImageConfig>,
    /// What could not be as it should.
    pub degradations: Vec<Degradation>,
}

/// What it takes to lay one out.
pub struct Layout<'a> {
    /// SRC, as it was typed.
    pub from: &'a str,
    pub maps: &'a Maps,
    pub draft: &'a Draft,
    /// Where layers go, if not into the bundle.
    pub store: Option<&'a Store>,
}

/// A layer, or a tar, before it is read.
struct Input<'a, R> {
    name: &'a str,
    blob: Option<(u64, Digest)>,
    diff_id: Option<&'a Digest>,
    file: R,
}

type Shown = Rc<RefCell<Progress>>;

impl Layout<'_> {
    /// Unpacks what a source names: an image, or a tar of a root file system.
    ///
    /// # Errors
    /// An image that is damaged or not for us, a full disk.
    pub fn lay_out(&self, source: &Source) -> Result<Root, Failure> {
        match self.image(source)? {
            Some(image) => self.layers(image),
            None => self.tar(source),
        }
    }

    /// What could not be read of an image.
    fn invalid(&self, cause: impl Into<String>) -> Failure {
        Failure::new(format!("cannot read image {}", self.from), cause)
            .code("IMG-INVALID")
            .fix("fetch it again")
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

    fn layers(&self, image: Image) -> Result<Root, Failure> {
        let files = image.layers.iter().map(|layer| image.files.open(&layer.name));
        let files = files.collect::<Result<Vec<_>, _>>().map_err(|cause| self.invalid(cause))?;
        let progress = self.progress(Some(files.iter().map(|file| file.size()).sum()));
        let mut counts = Counts::default();
        let mut layers = Vec::new();
        let mut chain = None;
        for (layer, file) in image.layers.iter().zip(files) {
            let size = file.size();
            let file = Watched::new(file, progress.clone());
            let diff_id = Some(&layer.diff_id);
            let input = Input { name: &layer.name, blob: layer.blob.clone(), diff_id, file };
            let Some(store) = self.store else {
                self.unpack_flat(input, &mut counts)?;
                continue;
            };
            let id = chain_id(chain, &layer.diff_id);
            layers.push(match store.begin(&id)? {
                Some(partial) => {
                    let form = self.maps.layer();
                    self.unpack(input, &partial.tree()?, form, &self.merged(&layers)?, &mut counts)?;
                    store.complete(partial, &id)?
                }
                None => {
                    progress.borrow_mut().add(size);
                    store.layer(&id)
                }
            });
            chain = Some(id);
        }
        let layers = self.seen(layers)?;
        Ok(Root { layers, config: Some(image.config), degradations: counts.degradations() })
    }

    /// A tar, whose digest is known once it is unpacked.
    fn tar(&self, source: &Source) -> Result<Root, Failure> {
        let file = match source {
            Source::Tar(path) => open(path),
            _ => std::io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(|e| io_text(&e)),
        };
        let file = file.map_err(|cause| self.invalid(cause))?;
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        let file = Watched::new(file, self.progress(size));
        let input = Input { name: "it", blob: None, diff_id: None, file };
        let mut counts = Counts::default();
        let mut layers = Vec::new();
        match self.store {
            Some(store) => {
                let partial = store.begin_unknown()?;
                let (form, nothing) = (self.maps.layer(), self.merged(&[])?);
                let diff_id = self.unpack(input, &partial.tree()?, form, &nothing, &mut counts)?;
                layers.push(store.complete(partial, &diff_id)?);
            }
            None => self.unpack_flat(input, &mut counts)?,
        }
        Ok(Root { layers, config: None, degradations: counts.degradations() })
    }

    fn unpack_flat<R: Read>(&self, input: Input<'_, R>, counts: &mut Counts) -> Result<(), Failure> {
        let rootfs = self.draft.rootfs();
        let tree = File::open(&rootfs).act(|| format!("cannot open {}", rootfs.display()))?;
        self.unpack(input, &tree.into(), Form::Flat, &self.merged(&[])?, counts).map(drop)
    }

    /// The layers so far, as the next one finds them.
    fn merged(&self, layers: &[PathBuf]) -> Result<Merged, Failure> {
        Merged::open(layers).map_err(|cause| self.invalid(cause))
    }

    /// Unpacks it. Only after this is it known that it is what was promised; the answer is its digest.
    fn unpack<R: Read>(
        &self,
        input: Input<'_, R>,
        tree: &OwnedFd,
        form: Form,
        below: &Merged,
        counts: &mut Counts,
    ) -> Result<Digest, Failure> {
        let wrong = |cause: String| self.invalid(format!("{}: {cause}", input.name));
        let reader = Reader::new(input.file, input.blob, input.diff_id.cloned());
        let mut reader = reader.map_err(|error| wrong(io_text(&error)))?;
        let ids = self.maps.ids()?;
        counts.add(unpack::unpack(&mut reader, tree.as_fd(), form, below, &ids, &mut |_| ())?);
        reader.finish().map_err(wrong)
    }

    /// What overlayfs is to be given, which shows what lies below a layer that hides everything.
    fn seen(&self, mut layers: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
        let hides = |path: &PathBuf| {
            let act = || format!("cannot look at {}", path.display());
            let tree = File::open(path).act(act)?;
            unpack::hides_all_below(tree.as_fd(), self.maps.userxattr).act(act)
        };
        for at in (1..layers.len()).rev() {
            if hides(&layers[at])? {
                return Ok(layers.split_off(at));
            }
        }
        Ok(layers)
    }

    fn progress(&self, total: Option<u64>) -> Shown {
        Rc::new(RefCell::new(Progress::new(self.from, total)))
    }
}

/// What a tree is known by, since it depends on those below: as the image specification chains the digests of layers.
fn chain_id(below: Option<Digest>, diff_id: &Digest) -> Digest {
    match below {
        Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        None => diff_id.clone(),
    }
}

fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| io_text(&error))
}
