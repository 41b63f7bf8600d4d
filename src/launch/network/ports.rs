//! Published ports: whether they are free, and how slirp4netns is asked for them.

use crate::plan::network::{API_SOCKET, Helper, Protocol, Publish, slirp4netns_request};
use crate::report::{Act, Failure, io_text};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long slirp4netns may take for a port.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks whether the ports of a helper are free, by listening on them for a moment: helpers say which port they could not have,
/// but not why, and of a range some are content with a part.
///
/// # Errors
/// A port that is taken, or that is not ours to take (`NET-PORT`).
pub fn check_free(helper: &Helper, container: &str) -> Result<(), Failure> {
    for publish in &helper.publish {
        for (port, _) in publish.pairs() {
            listen(publish, port).map_err(|error| {
                let act = format!("cannot publish {publish} of container {container}");
                let failure = Failure::new(act, format!("port {port}: {}", io_text(&error)));
                match error.kind() {
                    ErrorKind::PermissionDenied => failure.code("NET-PORT").fix(format!(
                        "publish one from 1024 on, or sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
                    )),
                    ErrorKind::AddrInUse => failure.fix("publish another one, or end who listens there"),
                    ErrorKind::AddrNotAvailable => failure.fix("name an address of this host"),
                    _ => failure,
                }
            })?;
        }
    }
    Ok(())
}

fn listen(publish: &Publish, port: u16) -> std::io::Result<()> {
    let bind = |address: IpAddr| match publish.protocol {
        Protocol::Tcp => TcpListener::bind((address, port)).map(drop),
        Protocol::Udp => UdpSocket::bind((address, port)).map(drop),
    };
    match publish.address {
        Some(address) => bind(address),
        // Both families at once, where there are both.
        None => match bind(Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                bind(Ipv4Addr::UNSPECIFIED.into())
            }
            other => other,
        },
    }
}

/// Has slirp4netns publish the ports, after which nobody speaks to it any more.
///
/// # Errors
/// What it answers.
pub fn publish_by_slirp4netns(helper: &Helper, state: &Path, container: &str) -> Result<(), Failure> {
    let act = || format!("cannot talk to slirp4netns of container {container}");
    let directory = File::open(state).act(act)?;
    // However long the path of the directory is.
    let socket = format!("/proc/self/fd/{}/{API_SOCKET}", directory.as_raw_fd());
    for publish in &helper.publish {
        for pair in publish.pairs() {
            let answer = ask(&socket, &slirp4netns_request(publish, pair)).act(act)?;
            if let Some(error) = answer.get("error") {
                let cause = error["desc"].as_str().map_or_else(|| error.to_string(), String::from);
                return Err(Failure::new(
                    format!("cannot publish {publish} of container {container}"),
                    format!("slirp4netns: port {}: {cause}", pair.0),
                )
                .code("NET-HELPER")
                .fix("publish another one, or install passt and use --network pasta"));
            }
        }
    }
    std::fs::remove_file(state.join(API_SOCKET)).act(act)
}

fn ask(socket: &str, request: &serde_json::Value) -> std::io::Result<serde_json::Value> {
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(request.to_string().as_bytes())?;
    connection.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
