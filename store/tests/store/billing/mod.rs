//! The books on both databases: whose they are, what is refused, what is kept once, who holds what.

mod claims;
mod refusals;
mod rows;
mod tenants;
mod values;
