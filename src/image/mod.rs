//! Images: from what lies on the disk to what a bundle is made of.
//!
//! ```text
//! source   what SRC names            oci:PATH[:REF], docker-archive:FILE[:REF], a tar file, a directory, host
//! files    where its files are       a directory, or an archive whose members are read where they lie
//! oci, docker_archive                from the index to one manifest: which layers, which configuration
//! layer    a layer as a plain tar    decompressed, and its digests compared with what was promised
//! unpack   from a tar to a tree
//! root     all of these: the root file system of a bundle
//! maps     the ids that there are
//! store    trees that bundles share; draft    a bundle in the making
//! merged   one file of all the layers, without a mount
//! user, config                       the configuration of the image as that of a container
//! ```
//!
//! An image is a stranger's. Its documents are read up to a size and held against their digests before they are
//! believed, names in them lead to nothing outside of it, a layer is complete only once its digests were right,
//! and nothing that the image says of itself can change how its container is confined.
//!
//! Functions that read an image return a cause; who called them knows what was tried, and makes it a failure.

pub mod archive;
mod compress;
pub mod config;
pub mod digest;
pub mod docker_archive;
pub mod draft;
pub mod files;
pub mod layer;
pub mod maps;
pub mod merged;
pub mod oci;
mod progress;
pub mod root;
pub mod source;
pub mod store;
pub mod unpack;
pub mod user;

use config::ImageConfig;
use digest::Digest;
use files::Files;

/// An image that was found and understood.
pub struct Image {
    pub files: Box<dyn Files>,
    pub config: ImageConfig,
    /// From the lowest to the highest.
    pub layers: Vec<Layer>,
}

/// A layer, as the image describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its file.
    pub name: String,
    /// Its size and digest as it lies there; docker's archives do not tell.
    pub blob: Option<(u64, Digest)>,
    /// The digest of the plain tar.
    pub diff_id: Digest,
}

/// The largest document that is read: what registries allow.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Pairs files of layers with the digests that the configuration has for them.
fn layers<T>(
    files: Vec<T>,
    config: &ImageConfig,
    layer: impl Fn(T, Digest) -> Layer,
) -> Result<Vec<Layer>, String> {
    let diff_ids = config.diff_ids()?;
    if files.is_empty() {
        return Err("the image has no layers, so there is nothing to run: invalid argument".into());
    }
    if files.len() != diff_ids.len() {
        return Err(format!(
            "it has {} layers, and its configuration has {}: invalid argument",
            files.len(),
            diff_ids.len()
        ));
    }
    Ok(files.into_iter().zip(diff_ids).map(|(file, diff_id)| layer(file, diff_id)).collect())
}

/// Reads a document of JSON.
fn json<'a, T: serde::Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{what}: {error}"))
}

/// What Go writes for a list or a map that is empty.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    <Option<T> as serde::Deserialize>::deserialize(deserializer).map(Option::unwrap_or_default)
}
