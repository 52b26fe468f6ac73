//! What is kept of one command: output that nobody has acknowledged, and how it ended. Bounded by
//! what [`Record::has_room`] tells the reader of its pipes; knows nothing of processes.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{Stream, stream};
use protocol::{Exit, Output, Stream as Source, WatchEvent, watch_event::Event};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::supervise::Cancel;
use crate::{clock, locked::lock};

/// Unacknowledged output of one command.
const MAX_COMMAND: usize = 4 << 20;
/// Unacknowledged output of all commands. Beyond it each may still hold one piece, so that every
/// command gets on as its output is acknowledged.
const MAX_TOTAL: usize = 64 << 20;
const MAX_PIECE: usize = 64 << 10;
/// What a piece costs besides its text, so that many tiny ones are bounded too.
const PIECE_OVERHEAD: usize = 96;

/// Counts the unacknowledged output of all commands.
pub struct Budget {
    used: AtomicUsize,
    freed: watch::Sender<()>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { used: AtomicUsize::new(0), freed: watch::Sender::new(()) }
    }
}

impl Budget {
    fn free(&self, cost: usize) {
        self.used.fetch_sub(cost, Ordering::Relaxed);
        self.freed.send_replace(());
    }
}

/// What is kept of one command.
pub struct Record {
    /// Where wishes to end it go; closed once its main process has ended.
    pub cancels: mpsc::Sender<Cancel>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct State {
    /// Consecutive seqs, the last one being `last_seq`.
    pieces: VecDeque<Output>,
    last_seq: u64,
    /// The last piece that somebody has been given; those after it may still grow.
    given_seq: u64,
    cost: usize,
    exit: Option<Exit>,
}

impl State {
    /// Keeps a piece, as a part of the last one if that is of the same stream and nobody has it: a
    /// program that prints faster than it is followed makes large pieces, not many.
    fn add(&mut self, source: Source, text: &str) {
        let is_new = self.last_seq > self.given_seq;
        if let Some(last) = self.pieces.back_mut().filter(|_| is_new)
            && last.stream() == source
            && last.data.len() + text.len() <= MAX_PIECE
        {
            last.data.push_str(text);
            self.cost += text.len();
            return;
        }
        self.last_seq += 1;
        self.cost += cost(text);
        self.pieces.push_back(Output {
            seq: self.last_seq,
            stream: source.into(),
            data: text.to_owned(),
            at_unix_micros: clock::unix_micros(),
        });
    }
}

impl Record {
    /// A record of a command that has printed nothing yet, and the wishes to end it.
    pub fn new(budget: Arc<Budget>) -> (Self, mpsc::Receiver<Cancel>) {
        let (cancels, wishes) = mpsc::channel(16);
        let state = Mutex::default();
        (Self { cancels, state, changed: watch::Sender::new(()), budget }, wishes)
    }

    /// Keeps a text that has just arrived.
    pub fn push(&self, source: Source, mut text: &str) {
        let mut state = lock(&self.state);
        let before = state.cost;
        while !text.is_empty() {
            let (piece, rest) = text.split_at(text.floor_char_boundary(MAX_PIECE));
            text = rest;
            state.add(source, piece);
        }
        // Before the lock is gone, so that nothing is freed that was not counted.
        self.budget.used.fetch_add(state.cost - before, Ordering::Relaxed);
        drop(state);
        self.changed.send_replace(());
    }

    /// Drops output that is stored elsewhere.
    pub fn acknowledge(&self, seq: u64) {
        let mut freed = 0;
        let mut state = lock(&self.state);
        // Nobody can have stored what nobody was given, and it may still grow.
        let seq = seq.min(state.given_seq);
        while let Some(piece) = state.pieces.pop_front_if(|piece| piece.seq <= seq) {
            freed += cost(&piece.data);
        }
        state.cost -= freed;
        drop(state);
        self.budget.free(freed);
    }

    /// Returns when more output may be kept.
    pub async fn has_room(&self) {
        let mut freed = self.budget.freed.subscribe();
        loop {
            let own = lock(&self.state).cost;
            if own == 0 || own < MAX_COMMAND && self.budget.used.load(Ordering::Relaxed) < MAX_TOTAL
            {
                return;
            }
            // The sender lives as long as `self`.
            let _ = freed.changed().await;
        }
    }

    /// Notes how it ended; no output comes after.
    pub fn finish(&self, mut exit: Exit) {
        let mut state = lock(&self.state);
        exit.last_seq = state.last_seq;
        state.exit = Some(exit);
        drop(state);
        self.changed.send_replace(());
    }

    /// The seq of the last piece so far.
    pub fn last_seq(&self) -> u64 {
        lock(&self.state).last_seq
    }

    /// Whether all output so far is stored elsewhere.
    pub fn is_acknowledged(&self) -> bool {
        lock(&self.state).pieces.is_empty()
    }

    /// All that comes after a seq, as far as it is still here, and then the exit.
    pub fn follow(
        self: Arc<Self>,
        after_seq: u64,
    ) -> impl Stream<Item = Result<WatchEvent, Status>> {
        let changed = self.changed.subscribe();
        stream::unfold(Some((self, changed, after_seq)), |following| async move {
            let (record, mut changed, seen) = following?;
            loop {
                // Marked as seen before looking, so that a change in between wakes the wait below.
                changed.borrow_and_update();
                match record.event_after(seen) {
                    Some(Event::Output(output)) => {
                        let seen = output.seq;
                        let event = WatchEvent { event: Some(Event::Output(output)) };
                        return Some((Ok(event), Some((record, changed, seen))));
                    }
                    Some(exit @ Event::Exit(_)) => {
                        return Some((Ok(WatchEvent { event: Some(exit) }), None));
                    }
                    None => {
                        // The sender lives as long as `record`.
                        let _ = changed.changed().await;
                    }
                }
            }
        })
    }

    fn event_after(&self, seq: u64) -> Option<Event> {
        let mut state = lock(&self.state);
        let at = state.pieces.front().map(|first| seq.saturating_add(1).saturating_sub(first.seq));
        let piece = at.and_then(|at| state.pieces.get(usize::try_from(at).ok()?)).cloned();
        if let Some(piece) = piece {
            state.given_seq = state.given_seq.max(piece.seq);
            return Some(Event::Output(piece));
        }
        state.exit.clone().map(Event::Exit)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let cost = lock(&self.state).cost;
        self.budget.free(cost);
    }
}

fn cost(text: &str) -> usize {
    text.len() + PIECE_OVERHEAD
}
