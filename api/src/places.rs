//! Places that one tenant can take of something this process has a limited amount of, such as open
//! streams. Counted in memory: a place is free again when its guard is dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::id::OrganizationId;

/// The taken places of each organization.
#[derive(Debug, Clone)]
pub struct Places {
    taken: Arc<Mutex<HashMap<OrganizationId, u32>>>,
    limit: u32,
}

/// A taken place.
#[derive(Debug)]
pub struct Place {
    places: Places,
    org: OrganizationId,
}

impl Places {
    /// `limit` places for each organization.
    #[must_use]
    pub fn of(limit: u32) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// How many places each organization has.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes a place, if one is free.
    #[must_use]
    pub fn take(&self, org: OrganizationId) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let n = taken.entry(org).or_default();
        if *n >= self.limit {
            return None;
        }
        *n += 1;
        Some(Place { places: self.clone(), org })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = taken.get_mut(&self.org) {
            *n -= 1;
            if *n == 0 {
                taken.remove(&self.org);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_place_is_free_again_once_it_is_dropped_and_nobody_takes_anothers() {
        let org = |n| OrganizationId::from_uuid(Uuid::from_u128(n));
        let places = Places::of(2);
        let first = places.take(org(1)).unwrap();
        let _second = places.take(org(1)).unwrap();
        assert!(places.take(org(1)).is_none());
        assert!(places.take(org(2)).is_some());
        drop(first);
        assert!(places.take(org(1)).is_some());
        assert_eq!(places.taken.lock().unwrap().len(), 1, "nothing is kept of who has none");
    }
}
