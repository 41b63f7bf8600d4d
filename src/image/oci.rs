//! The image layout of OCI (image-layout.md): an index, and blobs by their digests.
//!
//! The index leads to manifests or to further indexes, of which the one for this machine is taken; the manifest
//! names the configuration and the layers. Docker's media types are the same documents under other names.

use super::config::ImageConfig;
use super::digest::Digest;
use super::files::Files;
use super::{Image, Layer, MAX_DOCUMENT, json, layers, null_is_default};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, BTreeSet};

/// The annotation that gives an entry of the index its name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An index of indexes of indexes: real ones have two.
const MAX_DEPTH: u32 = 4;

/// More entries than any real index has.
const MAX_ENTRIES: usize = 4096;

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// An operating system on a processor, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// What this program was built for.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "powerpc64" => ("ppc64", None),
            "loongarch64" => ("loong64", None),
            // s390x and riscv64 have one name everywhere.
            other => (other, None),
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(String::from) }
    }

    /// How well an image for `other` suits this: 0 for not at all. What is for everybody of the family comes
    /// before what is for a variant that may be more than this is.
    fn suits(&self, other: &Platform) -> u32 {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return 0;
        }
        match &other.variant {
            variant if *variant == self.variant => 3,
            None => 2,
            Some(_) => 1,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

/// An index and a manifest, told apart by what they have: a document that is both is neither (CVE-2021-41190).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    fn parse(what: &str, bytes: &[u8], expected: &str) -> Result<Document, String> {
        let document: Document = json(what, bytes)?;
        let wrong = |cause: &str| Err(format!("{what}: {cause}: invalid argument"));
        if document.schema_version != 2 || document.fs_layers.is_some() {
            return wrong(&format!("version {} of the schema is not supported", document.schema_version));
        }
        if !document.media_type.is_empty() && !expected.is_empty() && document.media_type != expected {
            return wrong(&format!("it is called {expected} and says {}", document.media_type));
        }
        let is_manifest = document.config.is_some() || document.layers.is_some();
        let kind = if document.media_type.is_empty() { expected } else { &document.media_type };
        match (document.manifests.is_some(), is_manifest) {
            (true, true) => wrong("it is an index and a manifest at once"),
            (true, false) if MANIFESTS.contains(&kind) => wrong("it is called a manifest and is an index"),
            (false, true) if INDEXES.contains(&kind) => wrong("it is called an index and is a manifest"),
            (false, false) if !INDEXES.contains(&kind) => wrong("it is neither an index nor a manifest"),
            _ => Ok(document),
        }
    }
}

/// Finds the image of this name, or the only one there is, for a platform.
///
/// # Errors
/// One line that says what is missing or wrong.
pub fn image(files: Box<dyn Files>, reference: Option<&str>, host: &Platform) -> Result<Image, String> {
    check_layout(&*files)?;
    let layout = Layout { files: &*files, host, entries: std::cell::Cell::new(0) };
    let manifest = layout.manifest(reference)?;
    let (config, layers) = layout.contents(manifest)?;
    Ok(Image { files, config, layers })
}

fn check_layout(files: &dyn Files) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let marker: Marker = json("oci-layout", &files.read("oci-layout", MAX_DOCUMENT)?)?;
    match marker.image_layout_version.split('.').next() {
        Some("1") => Ok(()),
        _ => Err(format!(
            "version {:?} of the layout is not supported: invalid argument",
            marker.image_layout_version
        )),
    }
}

struct Layout<'a> {
    files: &'a dyn Files,
    host: &'a Platform,
    /// How many were looked at.
    entries: std::cell::Cell<usize>,
}

impl Layout<'_> {
    /// The manifest that a reference means.
    fn manifest(&self, reference: Option<&str>) -> Result<Document, String> {
        let index = self.files.read("index.json", MAX_DOCUMENT)?;
        let index = Document::parse("index.json", &index, "")?;
        let all = index.manifests.ok_or("index.json: it is no index: invalid argument")?;
        let Some(reference) = reference else {
            return self.one_of(&all, "it");
        };
        let named: Vec<_> = all
            .iter()
            .filter(|entry| entry.annotations.get(REF_NAME).is_some_and(|name| name == reference))
            .cloned()
            .collect();
        if !named.is_empty() {
            return self.one_of(&named, reference);
        }
        if let Ok(digest) = Digest::parse(reference.strip_prefix('@').unwrap_or(reference)) {
            return self.by_digest(&digest, &all);
        }
        Err(format!(
            "{reference:?} is not in it, which has {}: no such file or directory; fix: name one of them",
            names(&all)
        ))
    }

    /// An entry of the index by its digest: whoever gives that knows which platform it is for.
    fn by_digest(&self, digest: &Digest, all: &[Descriptor]) -> Result<Document, String> {
        let listed = all.iter().find(|entry| entry.digest == digest.to_string());
        let mut entry = listed.cloned().unwrap_or(Descriptor {
            media_type: String::new(),
            digest: digest.to_string(),
            // What a nested index has is taken at its word by its digest alone.
            size: self.files.open(&blob_name(digest))?.size(),
            platform: None,
            annotations: BTreeMap::new(),
        });
        entry.platform = None;
        self.one_of(&[entry], &digest.to_string())
    }

    /// Of some entries that which suits the host; there may not be two.
    fn one_of(&self, entries: &[Descriptor], what: &str) -> Result<Document, String> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        self.collect(entries, 0, &mut seen, &mut found)?;
        let best = found.iter().map(|(suits, _)| *suits).max().unwrap_or(0);
        if best == 0 {
            return Err(format!(
                "{what} has no image for {}, only {}: no such file or directory",
                self.host,
                if seen.is_empty() { "none at all".into() } else { list(seen) }
            ));
        }
        let mut found: Vec<_> =
            found.into_iter().filter(|(suits, _)| *suits == best).map(|(_, it)| it).collect();
        found.dedup_by(|a, b| a.digest == b.digest);
        match &found[..] {
            [entry] => {
                let bytes = self.blob(entry, MAX_DOCUMENT)?;
                Document::parse(&entry.digest, &bytes, &entry.media_type)
            }
            _ => Err(format!(
                "{what} has several images, {}: invalid argument; fix: name one of them behind a colon",
                names(&found)
            )),
        }
    }

    /// All manifests below some entries, with how well each suits.
    fn collect(
        &self,
        entries: &[Descriptor],
        depth: u32,
        seen: &mut BTreeSet<String>,
        found: &mut Vec<(u32, Descriptor)>,
    ) -> Result<(), String> {
        self.entries.set(self.entries.get() + entries.len());
        if depth > MAX_DEPTH || self.entries.get() > MAX_ENTRIES {
            return Err("its indexes are nested too deeply or too large: invalid argument".into());
        }
        for entry in entries {
            if let Some(platform) = &entry.platform {
                seen.insert(platform.to_string());
                if self.host.suits(platform) == 0 {
                    continue;
                }
            }
            let kind = entry.media_type.as_str();
            let is_index = if kind.is_empty() {
                Document::parse(&entry.digest, &self.blob(entry, MAX_DOCUMENT)?, "")?.manifests.is_some()
            } else {
                INDEXES.contains(&kind)
            };
            if is_index {
                let nested = Document::parse(&entry.digest, &self.blob(entry, MAX_DOCUMENT)?, kind)?;
                self.collect(&nested.manifests.unwrap_or_default(), depth + 1, seen, found)?;
            } else if kind.is_empty() || MANIFESTS.contains(&kind) {
                let suits = entry.platform.as_ref().map_or(1, |platform| self.host.suits(platform));
                found.push((suits, entry.clone()));
            } else {
                seen.insert(kind.to_string());
            }
        }
        Ok(())
    }

    /// The configuration of a manifest, and its layers.
    fn contents(&self, manifest: Document) -> Result<(ImageConfig, Vec<Layer>), String> {
        let descriptor = manifest.config.ok_or("the manifest has no configuration: invalid argument")?;
        if !manifest.artifact_type.is_empty() || !CONFIGS.contains(&descriptor.media_type.as_str()) {
            let kind = if manifest.artifact_type.is_empty() {
                descriptor.media_type
            } else {
                manifest.artifact_type
            };
            return Err(format!("it is an artifact of type {kind:?} and no image: invalid argument"));
        }
        let config = ImageConfig::parse(&self.blob(&descriptor, MAX_DOCUMENT)?)?;
        let files = manifest.layers.unwrap_or_default();
        let files = files.into_iter().map(layer_file).collect::<Result<Vec<_>, String>>()?;
        let layers = layers(files, &config, |(size, digest), diff_id| Layer {
            name: blob_name(&digest),
            blob: Some((size, digest)),
            diff_id,
        })?;
        for layer in &layers {
            let (size, found) =
                (layer.blob.as_ref().map(|(size, _)| *size), self.files.open(&layer.name)?.size());
            if size != Some(found) {
                return Err(format!(
                    "{} has {found} bytes, and the manifest says otherwise: invalid argument",
                    layer.name
                ));
            }
        }
        Ok((config, layers))
    }

    /// A blob that is a document: its size and digest are those of the descriptor.
    fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, String> {
        let digest = Digest::parse(&descriptor.digest)?;
        let name = blob_name(&digest);
        let bytes = self.files.read(&name, limit)?;
        super::layer::compare(&name, &digest, descriptor.size, &bytes)?;
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm.name(), digest.hex())
}

/// The file of a layer, if it is one that can be unpacked.
fn layer_file(descriptor: Descriptor) -> Result<(u64, Digest), String> {
    let digest = Digest::parse(&descriptor.digest)?;
    let kind = descriptor.media_type.as_str();
    let refused = |cause: &str| Err(format!("layer {digest} {cause}: operation not supported"));
    if kind.contains(".nondistributable.") || kind.contains(".foreign.") {
        return refused("is not distributable, so that its image is not complete");
    }
    let plain = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];
    let rest = plain.into_iter().find_map(|plain| kind.strip_prefix(plain));
    match rest {
        // What it really is, its first bytes say.
        Some("" | "+gzip" | ".gzip" | "+zstd" | ".zstd") => Ok((descriptor.size, digest)),
        _ => refused(&format!("is of the type {kind:?}")),
    }
}

fn names(entries: &[Descriptor]) -> String {
    let name = |entry: &Descriptor| entry.annotations.get(REF_NAME).unwrap_or(&entry.digest).clone();
    let names: BTreeSet<_> = entries.iter().map(name).collect();
    if names.is_empty() { "nothing".into() } else { list(names) }
}

/// The first few of some words.
pub fn list(words: BTreeSet<String>) -> String {
    const FEW: usize = 8;
    let more = words.len().saturating_sub(FEW);
    let words: Vec<_> = words.into_iter().take(FEW).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    crate::report::one_line(&format!("{}{more}", words.join(", ")))
}
