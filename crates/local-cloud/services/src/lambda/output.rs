//! Copies the output of a process line by line into its log. It reads a pipe as it fills, and once more before
//! an invocation's log is closed, so that the log has every line that the function printed before it answered.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cloud_core::lock;
use tokio::net::unix::pipe;

use super::logger::{Logger, Source};
use crate::logs::MAX_EVENT_BYTES;

/// The capacity of a pipe (pipe(7)), and so the most that can be unread at one moment.
const PIPE_BYTES: usize = 65_536;

/// The beginning of the line that Rust's runtime prints before it aborts for lack of memory.
const OUT_OF_MEMORY: &str = "memory allocation of ";

#[derive(Debug)]
pub(super) struct Output {
    pipe: pipe::Receiver,
    /// The incomplete last line.
    line: Mutex<Vec<u8>>,
    out_of_memory: AtomicBool,
    source: Source,
    logger: Arc<Logger>,
}

/// Where reading stopped.
#[derive(Debug, PartialEq)]
enum Read {
    /// The pipe is empty now.
    Empty,
    /// At the end of one turn; there may be more.
    More,
    /// The pipe is closed.
    Ended,
}

impl Output {
    /// Copies a pipe until it ends.
    pub fn follow(pipe: OwnedFd, source: Source, logger: &Arc<Logger>) -> std::io::Result<Arc<Self>> {
        let output = Arc::new(Self {
            pipe: pipe::Receiver::from_owned_fd(pipe)?,
            line: Mutex::default(),
            out_of_memory: AtomicBool::new(false),
            source,
            logger: logger.clone(),
        });
        let reading = output.clone();
        tokio::spawn(async move {
            while reading.pipe.readable().await.is_ok() {
                match reading.read(|chunk| reading.pipe.try_read(chunk)) {
                    Read::Empty => {}
                    Read::More => tokio::task::yield_now().await,
                    Read::Ended => return,
                }
            }
        });
        Ok(output)
    }

    /// Logs all that has been printed by now.
    pub fn catch_up(&self) {
        self.read(|chunk| Ok(rustix::io::read(&self.pipe, chunk)?));
    }

    pub fn out_of_memory(&self) -> bool {
        self.out_of_memory.load(Ordering::SeqCst)
    }

    /// Reads and logs under one lock, so that the next holder finds everything logged.
    fn read(&self, take: impl Fn(&mut [u8]) -> std::io::Result<usize>) -> Read {
        let mut line = lock(&self.line);
        let mut chunk = [0; 8_192];
        for _ in 0..PIPE_BYTES / chunk.len() {
            match take(&mut chunk) {
                Ok(0) => {
                    self.log(&mut line);
                    return Read::Ended;
                }
                Ok(read) => self.log_lines(&mut line, &chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Read::Empty,
                Err(_) => return Read::Ended,
            }
        }
        Read::More
    }

    /// Adds `chunk` to the incomplete line, and logs the lines that are complete then.
    fn log_lines(&self, line: &mut Vec<u8>, chunk: &[u8]) {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            while let Some(rest) = cut(line) {
                self.log(line);
                *line = rest;
            }
            if part.ends_with(b"\n") {
                self.log(line);
            }
        }
    }

    fn log(&self, line: &mut Vec<u8>) {
        if line.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(line);
        if text.starts_with(OUT_OF_MEMORY) {
            self.out_of_memory.store(true, Ordering::SeqCst);
        }
        let text = text.trim_end_matches(['\n', '\r']);
        self.logger.line(text);
        self.logger.show(text, self.source);
        line.clear();
    }
}

/// Cuts a line, between two characters, where it is too long for an event of CloudWatch Logs; returns the rest.
fn cut(line: &mut Vec<u8>) -> Option<Vec<u8>> {
    if line.strip_suffix(b"\n").unwrap_or(line).len() <= MAX_EVENT_BYTES {
        return None;
    }
    let begins = |at: &usize| line[*at] & 0b1100_0000 != 0b1000_0000;
    let at = (MAX_EVENT_BYTES - 3..=MAX_EVENT_BYTES).rev().find(begins).unwrap_or(MAX_EVENT_BYTES);
    Some(line.split_off(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_does_not_end_is_cut_between_two_characters() {
        let cut_of = |text: String| {
            let mut line = text.into_bytes();
            let rest = cut(&mut line).map(|rest| String::from_utf8(rest).unwrap());
            (String::from_utf8(line).unwrap().len(), rest)
        };
        let line = |bytes: usize| "x".repeat(bytes);
        assert_eq!(cut_of(line(MAX_EVENT_BYTES) + "\n"), (MAX_EVENT_BYTES + 1, None));
        assert_eq!(cut_of(line(MAX_EVENT_BYTES) + "y\n"), (MAX_EVENT_BYTES, Some("y\n".into())));
        assert_eq!(cut_of(line(MAX_EVENT_BYTES - 1) + "é"), (MAX_EVENT_BYTES - 1, Some("é".into())));
    }
}
