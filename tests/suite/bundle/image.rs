//! Images made by hand, to have them exactly so: also such that nobody else would make.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::lab::{Lab, busybox};

/// The media types of OCI.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A tar archive in the making.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    /// A member; the name may say what it likes.
    fn member(
        mut self,
        name: &str,
        kind: u8,
        mode: u32,
        (uid, gid): (u32, u32),
        link: &str,
        content: &[u8],
    ) -> Tar {
        let mut block = [0u8; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, format!("{uid:07o}").as_bytes());
        put(116, format!("{gid:07o}").as_bytes());
        put(124, format!("{:011o}", content.len()).as_bytes());
        put(136, b"14000000000");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Tar {
        self.member(name, b'0', 0o644, (0, 0), "", content.as_ref())
    }

    pub fn program(self, name: &str, content: impl AsRef<[u8]>) -> Tar {
        self.member(name, b'0', 0o755, (0, 0), "", content.as_ref())
    }

    /// A file of somebody's.
    pub fn owned(self, name: &str, owner: (u32, u32)) -> Tar {
        self.member(name, b'0', 0o644, owner, "", b"")
    }

    pub fn dir(self, name: &str) -> Tar {
        self.member(name, b'5', 0o755, (0, 0), "", b"")
    }

    pub fn link(self, name: &str, target: &str) -> Tar {
        self.member(name, b'2', 0o777, (0, 0), target, b"")
    }

    pub fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// What a container needs to run a command: busybox, its links, and an /etc/passwd.
    pub fn base() -> Tar {
        let tree = busybox();
        let mut tar = Tar::new().dir("bin").dir("proc").dir("dev").dir("sys").dir("etc").dir("tmp");
        tar = tar.program("bin/busybox", fs::read(tree.join("bin/busybox")).unwrap());
        for applet in ["sh", "cat", "id", "echo", "ls", "stat", "pwd", "test", "env", "tr"] {
            tar = tar.link(&format!("bin/{applet}"), "busybox");
        }
        tar.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmoss:x:1000:100:moss:/home/moss:/bin/sh\n")
            .file("etc/group", "root:x:0:\nusers:x:100:\nadm:x:4:moss\n")
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// An image layout on the disk.
pub struct Layout {
    pub dir: PathBuf,
}

impl Layout {
    pub fn new(lab: &Lab, name: &str) -> Layout {
        let dir = lab.dir.join(name);
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        Layout { dir }
    }

    /// A layout with one image, made of these layers.
    pub fn with_image(lab: &Lab, name: &str, layers: &[Vec<u8>], config: Value) -> Layout {
        let layout = Layout::new(lab, name);
        let manifest = layout.image(layers, config);
        layout.index(&[named(manifest, "latest")]);
        layout
    }

    pub fn blob_path(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap();
        self.dir.join("blobs").join(digest.replace(':', "/"))
    }

    pub fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let descriptor = json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() });
        fs::write(self.blob_path(&descriptor), bytes).unwrap();
        descriptor
    }

    pub fn json(&self, kind: &str, document: &Value) -> Value {
        self.blob(kind, document.to_string().as_bytes())
    }

    /// The descriptor of an image with layers that are plain tars.
    pub fn image(&self, layers: &[Vec<u8>], config: Value) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let layers: Vec<Value> = layers.iter().map(|layer| self.blob(LAYER, layer)).collect();
        let config = self.json(CONFIG, &configuration(&diff_ids, config));
        self.json(MANIFEST, &json!({ "schemaVersion": 2, "config": config, "layers": layers }))
    }

    pub fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
    }

    pub fn source(&self) -> String {
        format!("oci:{}", self.dir.display())
    }
}

pub fn configuration(diff_ids: &[String], config: Value) -> Value {
    json!({
        "os": "linux",
        "architecture": architecture(),
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

/// That of this machine, in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    descriptor
}

/// A `docker save` of one image, as Docker before 25 writes it.
pub fn docker_archive(layers: &[Vec<u8>], config: Value) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = configuration(&diff_ids, config).to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()).trim_start_matches("sha256:"));
    let mut tar = Tar::new().file(&config_name, &config);
    let mut names = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        // One that is there already is a link to it.
        let first = diff_ids.iter().position(|id| *id == diff_ids[at]).unwrap();
        let name = format!("{at}/layer.tar");
        tar = match first {
            first if first < at => tar.link(&name, &format!("../{first}/layer.tar")),
            _ => tar.file(&name, layer),
        };
        names.push(name);
    }
    let manifest = json!([{ "Config": config_name, "RepoTags": ["moss:latest"], "Layers": names }]);
    tar.file("manifest.json", manifest.to_string()).done()
}
