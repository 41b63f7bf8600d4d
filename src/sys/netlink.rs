//! As much of rtnetlink(7) as it takes to hand a network device to another namespace.
//!
//! A socket stays in the network namespace that it was opened in, and everything that is asked of it is about the
//! devices there. A message is a header and a body of fixed form, and attributes after it: each with its length and
//! type in front, and filled up to four bytes.

use super::clone::setns;
use super::{Errno, Result, retry};
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A line to the network devices of a namespace.
#[derive(Debug)]
pub struct Devices(OwnedFd);

/// A device, as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub index: i32,
    pub name: String,
}

/// An address of a device, as it is to be given to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

const HEADER: usize = 16;
/// struct ifinfomsg: family, padding, type, index, flags, change.
const LINK: usize = 16;
/// struct ifaddrmsg: family, prefixlen, flags, scope, index.
const ADDRESS: usize = 8;

impl Devices {
    /// Those of our own namespace.
    ///
    /// # Errors
    /// That of socket(2).
    pub fn ours() -> Result<Devices> {
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).map(Devices)
    }

    /// Those of another namespace. We are there for a moment, which nobody else must be with us: it takes a process of
    /// one thread.
    ///
    /// # Errors
    /// That of setns(2): `EPERM` for who has no CAP_SYS_ADMIN over that namespace.
    pub fn of(namespace: BorrowedFd<'_>) -> Result<Devices> {
        let back = own_namespace()?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let devices = Devices::ours();
        setns(&back, CloneFlags::CLONE_NEWNET)?;
        devices
    }

    /// All of them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn list(&self) -> Result<Vec<Device>> {
        let replies = self.ask(libc::RTM_GETLINK, libc::NLM_F_DUMP, link(0, 0), &[])?;
        let device = |body: &Vec<u8>| {
            let name = attributes(body.get(LINK..)?).find(|(kind, _)| *kind == libc::IFLA_IFNAME)?.1;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_string();
            Some(Device { index: i32::from_ne_bytes(*body.get(4..)?.first_chunk()?), name })
        };
        Ok(replies.iter().filter_map(device).collect())
    }

    /// The addresses of a device that are to stay and mean something to others: permanent ones (`IFA_F_PERMANENT`) of
    /// global scope.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn addresses(&self, index: i32) -> Result<Vec<Address>> {
        let replies = self.ask(libc::RTM_GETADDR, libc::NLM_F_DUMP, vec![0; ADDRESS], &[])?;
        Ok(replies.iter().filter_map(|body| address(body, index)).collect())
    }

    /// Hands a device to another namespace, by this name.
    ///
    /// # Errors
    /// `EEXIST` where there is one of this name, `EINVAL` for one that cannot leave its namespace, `EPERM`.
    pub fn give(&self, index: i32, namespace: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut name = name.as_bytes().to_vec();
        name.push(0);
        let namespace = namespace.as_raw_fd().to_ne_bytes().to_vec();
        let wanted = [(libc::IFLA_NET_NS_FD, namespace), (libc::IFLA_IFNAME, name)];
        self.ask(libc::RTM_SETLINK, libc::NLM_F_ACK, link(index, 0), &wanted).map(drop)
    }

    /// Gives a device an address.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add(&self, index: i32, address: &Address) -> Result<()> {
        let mut body = vec![address.family, address.prefix, 0, libc::RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.ask(libc::RTM_NEWADDR, flags, body, &address.attributes).map(drop)
    }

    /// Sets a device up.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_up(&self, index: i32) -> Result<()> {
        self.ask(libc::RTM_SETLINK, libc::NLM_F_ACK, link(index, libc::IFF_UP as u32), &[]).map(drop)
    }

    /// Sends a request, and takes the bodies of what is answered.
    fn ask(&self, kind: u16, flags: i32, body: Vec<u8>, wanted: &[(u16, Vec<u8>)]) -> Result<Vec<Vec<u8>>> {
        let message = message(kind, flags | libc::NLM_F_REQUEST, body, wanted)?;
        retry(|| send(self.0.as_raw_fd(), &message, MsgFlags::empty()))?;
        let mut replies = Vec::new();
        // What the kernel fills at most (NLMSG_GOODSIZE, and 32 KiB for a listing).
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = retry(|| recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()))?;
            let heard = buffer.get(..read).unwrap_or_default();
            if !hear(heard, &mut replies)? {
                return Ok(replies);
            }
        }
    }
}

/// Our own network namespace.
///
/// # Errors
/// Where /proc is not there.
pub fn own_namespace() -> Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from).map_err(super::fds::io_errno)
}

/// Takes the messages of one datagram; says whether there is more to come.
fn hear(mut heard: &[u8], replies: &mut Vec<Vec<u8>>) -> Result<bool> {
    while let Some((header, _)) = heard.split_first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = i32::from(u16::from_ne_bytes([header[4], header[5]]));
        let body = heard.get(HEADER..length).ok_or(Errno::EBADMSG)?;
        match kind {
            libc::NLMSG_DONE => return Ok(false),
            libc::NLMSG_ERROR => {
                let code = body.first_chunk().map(|code| i32::from_ne_bytes(*code)).ok_or(Errno::EBADMSG)?;
                return if code == 0 { Ok(false) } else { Err(Errno::from_raw(-code)) };
            }
            _ => replies.push(body.to_vec()),
        }
        heard = heard.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

fn link(index: i32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    // Which of the flags are meant: those that are given.
    body.extend(flags.to_ne_bytes());
    body
}

fn message(kind: u16, flags: i32, body: Vec<u8>, wanted: &[(u16, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut payload = body;
    for (kind, value) in wanted {
        let length = u16::try_from(value.len() + 4).map_err(|_| Errno::EMSGSIZE)?;
        payload.extend(length.to_ne_bytes());
        payload.extend(kind.to_ne_bytes());
        payload.extend(value);
        payload.resize(payload.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(HEADER + payload.len()).map_err(|_| Errno::EMSGSIZE)?;
    let flags = u16::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // The sequence number, which one request at a time does not need, and the port, which is the kernel's to choose.
    message.extend([0; 8]);
    message.extend(payload);
    Ok(message)
}

/// The attributes behind a body.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The address of a reply, if it is of this device and one to keep.
fn address(body: &[u8], index: i32) -> Option<Address> {
    let header = body.first_chunk::<ADDRESS>()?;
    let of = i32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let global = header[3] == libc::RT_SCOPE_UNIVERSE;
    let attributes = attributes(body.get(ADDRESS..)?);
    let kept = [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST];
    let mut permanent = u32::from(header[2]) & libc::IFA_F_PERMANENT != 0;
    let mut wanted = Vec::new();
    for (kind, value) in attributes {
        if kind == libc::IFA_FLAGS {
            // All of them; the header has room for the lower eight alone.
            permanent = u32::from_ne_bytes(*value.first_chunk()?) & libc::IFA_F_PERMANENT != 0;
        } else if kept.contains(&kind) {
            wanted.push((kind, value.to_vec()));
        }
    }
    (of == index && global && permanent).then(|| Address {
        family: header[0],
        prefix: header[1],
        attributes: wanted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(flags: u8, scope: u8, index: i32, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![2, 24, flags, scope];
        body.extend(index.to_ne_bytes());
        message(0, 0, body, attributes).unwrap().split_off(HEADER)
    }

    #[test]
    fn what_is_permanent_and_global_is_kept_without_its_label() {
        let attributes = [(libc::IFA_LOCAL, vec![10, 0, 0, 1]), (libc::IFA_LABEL, b"eth0\0".to_vec())];
        let kept = address(&body(0x80, 0, 7, &attributes), 7).unwrap();
        assert_eq!((kept.family, kept.prefix), (2, 24));
        assert_eq!(kept.attributes, attributes[..1]);
        assert_eq!(address(&body(0x80, 0, 7, &attributes), 8), None);
        assert_eq!(address(&body(0, 0, 7, &attributes), 7), None);
        assert_eq!(address(&body(0x80, 253, 7, &attributes), 7), None);
        let more = [(libc::IFA_FLAGS, 0x280u32.to_ne_bytes().to_vec())];
        assert!(address(&body(0, 0, 7, &more), 7).is_some());
    }

    #[test]
    fn a_listing_ends_and_an_error_is_an_errno() {
        let mut replies = Vec::new();
        let reply = message(libc::RTM_NEWLINK, 2, vec![1; 5], &[]).unwrap();
        let mut two = reply.clone();
        two.resize(two.len().next_multiple_of(4), 0);
        two.extend(&reply);
        assert_eq!(hear(&two, &mut replies), Ok(true));
        assert_eq!(replies, [vec![1; 5], vec![1; 5]]);
        let done = message(u16::try_from(libc::NLMSG_DONE).unwrap(), 0, vec![0; 4], &[]).unwrap();
        assert_eq!(hear(&done, &mut replies), Ok(false));
        let kind = u16::try_from(libc::NLMSG_ERROR).unwrap();
        let error = |code: i32| message(kind, 0, code.to_ne_bytes().to_vec(), &[]).unwrap();
        assert_eq!(hear(&error(-libc::EEXIST), &mut replies), Err(Errno::EEXIST));
        assert_eq!(hear(&error(0), &mut replies), Ok(false));
        assert_eq!(hear(&reply[..18], &mut replies), Err(Errno::EBADMSG));
    }

    #[test]
    fn loopback_is_listed_by_the_kernel_itself() {
        let devices = Devices::ours().unwrap().list().unwrap();
        assert!(devices.contains(&Device { index: 1, name: "lo".into() }), "{devices:?}");
    }
}
