//! Who the customers are: organizations, their users, projects and API keys.

pub mod api_keys;
pub mod organizations;
pub mod projects;
pub mod users;

pub use api_keys::api_keys;
pub use projects::projects;
