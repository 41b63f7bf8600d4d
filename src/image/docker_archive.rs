//! What `docker save` writes, and Podman, Buildah and Skopeo as `docker-archive`: `manifest.json` names the files
//! of each image. Docker writes an image layout into the same archive since version 25, and Podman's `oci-archive`
//! has only that.

use super::config::ImageConfig;
use super::digest::Digest;
use super::files::Files;
use super::oci::{self, Platform, list};
use super::{Image, Layer, MAX_DOCUMENT, json, layers, null_is_default};
use serde::Deserialize;

const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<String>,
}

/// Finds the image of this name or id, or the only one there is.
///
/// # Errors
/// One line that says what is missing or wrong.
pub fn image(files: Box<dyn Files>, reference: Option<&str>, host: &Platform) -> Result<Image, String> {
    if !files.has(MANIFEST) && files.has("oci-layout") {
        return oci::image(files, reference, host);
    }
    let entries: Vec<Entry> = json(MANIFEST, &files.read(MANIFEST, MAX_DOCUMENT)?)?;
    let entry = choose(entries, reference)?;
    let config = files.read(&entry.config, MAX_DOCUMENT)?;
    if let Some(id) = id(&entry.config) {
        super::layer::compare(&entry.config, &id, config.len() as u64, &config)?;
    }
    let config = ImageConfig::parse(&config)?;
    let layers = layers(entry.layers, &config, |name, diff_id| Layer { name, blob: None, diff_id })?;
    layers.iter().try_for_each(|layer| files.open(&layer.name).map(drop))?;
    Ok(Image { files, config, layers })
}

fn choose(mut entries: Vec<Entry>, reference: Option<&str>) -> Result<Entry, String> {
    let all = entries.iter().map(name).collect();
    if let Some(reference) = reference {
        let wanted = full(reference);
        let of_id = Digest::parse(reference.strip_prefix('@').unwrap_or(reference)).ok();
        let named = entries.into_iter().find(|entry| {
            entry.repo_tags.iter().any(|tag| full(tag) == wanted)
                || of_id.is_some() && id(&entry.config) == of_id
        });
        return named.ok_or_else(|| {
            format!(
                "{reference:?} is not in it, which has {}: no such file or directory; fix: name one of them",
                list(all)
            )
        });
    }
    match (entries.pop(), entries.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(format!(
            "it has several images, {}: invalid argument; fix: name one of them behind a colon",
            list(all)
        )),
        (None, _) => Err("it has no images: invalid argument".into()),
    }
}

fn name(entry: &Entry) -> String {
    entry.repo_tags.first().unwrap_or(&entry.config).clone()
}

/// The name of an image as it is once everything that goes without saying was said: `alpine` is
/// `docker.io/library/alpine:latest`.
fn full(name: &str) -> String {
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, "latest"),
    };
    let first = path.split('/').next().unwrap_or_default();
    let path = match path.split_once('/') {
        None => format!("docker.io/library/{path}"),
        Some(("docker.io", rest)) if !rest.contains('/') => format!("docker.io/library/{rest}"),
        Some(_) if first.contains(['.', ':']) || first == "localhost" => path.to_string(),
        Some(_) => format!("docker.io/{path}"),
    };
    format!("{path}:{tag}")
}

/// The digest that the name of a configuration is: `HEX.json` or `blobs/sha256/HEX`.
fn id(config: &str) -> Option<Digest> {
    let hex = config.strip_suffix(".json").or_else(|| config.strip_prefix("blobs/sha256/"))?;
    Digest::parse(&format!("sha256:{hex}")).ok()
}

#[cfg(test)]
mod tests {
    use super::super::archive::tests::{archive, member};
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn open(manifest: &str, config: &str, reference: Option<&str>) -> Result<Image, String> {
        let archive = archive(&[
            member(MANIFEST, b'0', "", manifest.as_bytes()),
            member("config", b'0', "", config.as_bytes()),
            member(&format!("{HEX}.json"), b'0', "", config.as_bytes()),
            member("1/layer.tar", b'0', "", b""),
            member("2/layer.tar", b'2', "../1/layer.tar", b""),
        ])?;
        image(Box::new(archive), reference, &Platform::host())
    }

    fn config(layers: usize) -> String {
        let diff_ids = vec![format!("sha256:{HEX}"); layers];
        serde_json::json!({"os": "linux", "architecture": "x", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
            .to_string()
    }

    #[test]
    fn the_manifest_leads_to_the_configuration_and_the_layers() {
        let manifest =
            r#"[{"Config": "config", "RepoTags": null, "Layers": ["1/layer.tar", "2/layer.tar"]}]"#;
        let image = open(manifest, &config(2), None).unwrap();
        let names: Vec<_> = image.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["1/layer.tar", "2/layer.tar"]);
    }

    #[test]
    fn an_image_is_found_by_its_name_and_its_id() {
        let manifest = format!(
            r#"[{{"Config": "{HEX}.json", "RepoTags": ["docker.io/library/a:latest"], "Layers": ["1/layer.tar"]}},
                {{"Config": "config", "RepoTags": ["localhost/b:2"], "Layers": ["1/layer.tar"]}}]"#
        );
        let open = |reference| open(&manifest, &config(1), reference).map(|_| ()).unwrap_err_or_default();
        assert_eq!(open(Some("localhost/b:2")), "");
        // The digest of its name is that of nothing, so that one is found, and then refused.
        let id = format!("sha256:{HEX}");
        for name in ["a", "a:latest", "docker.io/a", &id] {
            assert!(open(Some(name)).contains("its digest is"), "{name}");
        }
        for name in ["b", "localhost/b", "a:2", "c"] {
            assert!(open(Some(name)).contains("localhost/b:2"), "{name}");
        }
        assert!(open(None).contains("several"));
    }

    #[test]
    fn what_is_missing_or_of_the_wrong_shape_is_told() {
        let entry =
            |config: &str, layers: &str| format!(r#"[{{"Config": "{config}", "Layers": [{layers}]}}]"#);
        for (manifest, config) in [
            ("".to_string(), config(1)),
            ("[]".to_string(), config(1)),
            ("{}".to_string(), config(1)),
            (entry("config", r#""1/layer.tar""#), config(2)),
            (entry("config", ""), config(0)),
            (entry("config", r#""../../etc/passwd""#), config(1)),
            (entry("/etc/passwd", r#""1/layer.tar""#), config(1)),
            (entry("none", r#""1/layer.tar""#), config(1)),
            (entry("config", r#""none""#), config(1)),
            (entry("config", r#""1/layer.tar""#), "{}".into()),
            (entry("config", r#""1/layer.tar""#), "[]".into()),
        ] {
            assert!(open(&manifest, &config, None).is_err(), "{manifest}");
        }
    }

    trait ErrOrDefault {
        fn unwrap_err_or_default(self) -> String;
    }

    impl ErrOrDefault for Result<(), String> {
        fn unwrap_err_or_default(self) -> String {
            self.err().unwrap_or_default()
        }
    }

    #[test]
    fn names_are_made_whole() {
        for (short, whole) in [
            ("a", "docker.io/library/a:latest"),
            ("a:1", "docker.io/library/a:1"),
            ("u/a", "docker.io/u/a:latest"),
            ("docker.io/a", "docker.io/library/a:latest"),
            ("host:5000/a", "host:5000/a:latest"),
            ("localhost/a:1", "localhost/a:1"),
        ] {
            assert_eq!(full(short), whole);
        }
    }
}
