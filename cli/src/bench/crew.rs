//! The other sides of a bench: processes, or threads with `--threads`, which get their tasks line
//! by line.
//!
//! They live as long as the bench, and stay attached, so that no run includes the cost of
//! attaching.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use slipring::Error;

use super::part;
use super::tasks::{Answer, Task};
use super::trouble::Trouble;
use crate::child::{self, Part};
use crate::failure::{FAILED, Failure, Outcome};

/// Another side.
pub(super) struct Peer {
    to: File,
    from: BufReader<File>,
    /// The child, killed when dropped. A thread ends when its pipe closes.
    process: Option<Part>,
}

impl Peer {
    pub(super) fn start(threads: bool, cpu: Option<usize>) -> Outcome<Self> {
        if threads { Self::thread(cpu) } else { Self::process(cpu) }
    }

    pub(super) fn process(cpu: Option<usize>) -> Outcome<Self> {
        Self::over(Part::spawn(Part::command("bench-part", cpu))?)
    }

    pub(super) fn over(mut process: Part) -> Outcome<Self> {
        let to = process.stdin().ok_or_else(|| Failure::new(FAILED, "the process has no stdin"))?;
        let from = process.stdout()?;
        Ok(Peer {
            to: OwnedFd::from(to).into(),
            from: BufReader::new(OwnedFd::from(from).into()),
            process: Some(process),
        })
    }

    fn thread(cpu: Option<usize>) -> Outcome<Self> {
        let pipe = || std::io::pipe().map_err(|e| Failure::new(FAILED, e).at("a pipe"));
        let ((its, to), (from, ours)) = (pipe()?, pipe()?);
        crate::opening::spawn(move || {
            cpu.into_iter().for_each(|cpu| child::confine([cpu]));
            // Its answers came through the pipe.
            let _ = part::serve(BufReader::new(its), ours);
        })?;
        Ok(Peer { to: OwnedFd::from(to).into(), from: BufReader::new(OwnedFd::from(from).into()), process: None })
    }

    /// The process id, if it is a process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Part::pid)
    }

    /// Kills the process. (Dropping the peer closes its pipe first, which lets it end in order.)
    pub(super) fn kill(&mut self) -> Outcome {
        self.process.as_mut().map_or(Ok(()), Part::kill)
    }

    /// Sends a task; [`Peer::answer`] waits for its end.
    pub(super) fn tell(&mut self, task: &Task) -> Outcome {
        let mut line = serde_json::to_string(task).map_err(|e| Failure::new(FAILED, e))?;
        line.push('\n');
        self.to.write_all(line.as_bytes()).map_err(|_| self.how_it_ended())
    }

    pub(super) fn answer(&mut self) -> Outcome<Answer> {
        let mut line = String::new();
        // Answers are short: a longer line is not an answer.
        match self.from.by_ref().take(1 << 16).read_line(&mut line) {
            Ok(1..) => match serde_json::from_str(&line) {
                Ok(Answer::Failed { code, why }) => Err(Failure::new(code, why).at("the other side")),
                Ok(answer) => Ok(answer),
                Err(e) => Err(Failure::new(FAILED, e).at("the other side")),
            },
            _ => Err(self.how_it_ended()),
        }
    }

    /// Runs `body` while the peer runs `task`, until both have finished.
    pub(super) fn during<T>(&mut self, task: &Task, body: impl FnOnce() -> Result<T, Trouble>) -> Outcome<(T, Answer)> {
        self.tell(task)?;
        match body() {
            Ok(result) => Ok((result, self.answer()?)),
            // The peer left during the run, so its answer contains the reason.
            Err(Trouble::Ring(error)) if child::is_end(&error) => Err(self.answer().err().unwrap_or(error.into())),
            // A probe cannot tell that its other side has ended.
            Err(Trouble::Ring(Error::Timeout)) if self.process.as_mut().is_some_and(Part::has_ended) => {
                Err(self.how_it_ended())
            }
            Err(trouble) => Err(trouble.into()),
        }
    }

    fn how_it_ended(&mut self) -> Failure {
        match self.process.take().map(Part::finish) {
            Some(Err(failure)) => failure,
            _ => Failure::new(FAILED, "the other side of the bench ended early"),
        }
    }
}

/// Waits for the answers of all `peers`. Fails as soon as any side fails or dies, including the
/// sides `beside` them, which answer later: without that side, the others might never finish.
pub(super) fn answers(peers: &mut [Peer], beside: &mut [Peer]) -> Outcome<Vec<Answer>> {
    let mut answers: Vec<Option<Answer>> = peers.iter().map(|_| None).collect();
    while answers.iter().any(Option::is_none) {
        let all = peers.iter().chain(beside.iter());
        let mut fds: Vec<_> = all.map(|peer| PollFd::new(peer.from.get_ref(), PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::new(FAILED, error).at("the other sides")),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            match peers.get_mut(index) {
                Some(peer) => answers[index] = Some(peer.answer()?),
                None => {
                    let peer = &mut beside[index - peers.len()];
                    peer.answer()?;
                    return Err(peer.how_it_ended());
                }
            }
        }
    }
    Ok(answers.into_iter().flatten().collect())
}
