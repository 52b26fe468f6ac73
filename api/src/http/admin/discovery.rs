//! The admin API's description of itself.

use poem_openapi::OpenApi;

use super::Tag;
use crate::http::{discovery::Document, extract::BaseUrl, openapi};

/// The routes that need no key.
#[derive(Debug)]
pub struct Discovery;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Discovery")]
impl Discovery {
    /// Get this description of the API.
    #[oai(path = "/openapi.json", method = "get", operation_id = "getAdminOpenApi")]
    async fn openapi(&self, base: BaseUrl) -> Document {
        Document(openapi::ADMIN.served_at(&base.0).to_string())
    }
}
