//! A bar on the terminal while layers are read; nothing where nobody watches.

use std::cell::RefCell;
use std::io::{IsTerminal, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often the line is drawn at most.
const PAUSE: Duration = Duration::from_millis(100);

/// Columns between the brackets.
const WIDTH: u64 = 30;

/// How far the work is.
pub struct Progress {
    what: String,
    total: Option<u64>,
    done: u64,
    /// When it was drawn last; none where it is not drawn at all.
    drawn: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// `total` is how many bytes there are to read, where that is known.
    pub fn new(what: impl Into<String>, total: Option<u64>) -> Progress {
        let drawn = std::io::stderr().is_terminal().then(Instant::now);
        Progress { what: what.into(), total, done: 0, drawn, shown: false }
    }

    /// So many more bytes were read.
    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.drawn.is_some_and(|drawn| drawn.elapsed() >= PAUSE) {
            self.drawn = Some(Instant::now());
            self.shown = true;
            // Back to the beginning of the line, and clear what is behind its end. Nobody may be watching any more.
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", line(&self.what, self.done, self.total));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            // What comes next begins where the bar was.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A reader whose bytes are progress.
pub struct Watched<R> {
    inner: R,
    progress: Rc<RefCell<Progress>>,
}

impl<R: Read> Watched<R> {
    pub fn new(inner: R, progress: Rc<RefCell<Progress>>) -> Watched<R> {
        Watched { inner, progress }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.progress.borrow_mut().add(len as u64);
        Ok(len)
    }
}

fn line(what: &str, done: u64, total: Option<u64>) -> String {
    let mib = |bytes: u64| bytes >> 20;
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let done = done.min(total);
            let full = u128::from(done) * u128::from(WIDTH) / u128::from(total);
            let full = usize::try_from(full).unwrap_or_default();
            let bar = "#".repeat(full) + &" ".repeat(WIDTH as usize - full);
            format!("{what} [{bar}] {} of {} MiB", mib(done), mib(total))
        }
        None => format!("{what} {} MiB", mib(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_full_as_the_work_is_done() {
        let full = |done, total| line("x", done, Some(total)).matches('#').count();
        assert_eq!((full(0, 10), full(5, 10), full(10, 10), full(11, 10)), (0, 15, 30, 30));
        assert_eq!(full(u64::MAX, u64::MAX), 30);
        assert_eq!(line("x", 3 << 20, Some(4 << 20)).split("] ").nth(1), Some("3 of 4 MiB"));
        assert_eq!(line("x", 3 << 20, None), "x 3 MiB");
    }
}
