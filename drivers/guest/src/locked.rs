//! Takes a lock whatever happened to its last holder: the agent must go on after a panic, and nothing
//! here leaves data half changed while it holds a lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
