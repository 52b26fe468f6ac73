//! What anybody may read without a key: whether the server works, how to talk to it, how to get in.

use std::sync::LazyLock;

use poem::{IntoResponse, Response};
use poem_openapi::{
    ApiResponse, Enum, Object, OpenApi,
    payload::Html,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
};
use serde_json::json;

use domain::Code;

use super::{Tag, context::Context, error::ApiError, extract::BaseUrl, openapi, responses::Json};
use crate::app::health;

const LLMS_TXT: &str = include_str!("llms.md");
const AUTH_MD: &str = include_str!("auth.md");

/// Makes the type of a text that is sent with its own content type.
macro_rules! text_type {
    ($name:ident $content_type:literal $ty:literal) => {
        #[doc = concat!("A text of `", $content_type, "`.")]
        #[derive(Debug)]
        pub struct $name(pub String);

        impl IntoResponse for $name {
            fn into_response(self) -> Response {
                Response::builder().content_type($content_type).body(self.0)
            }
        }

        impl ApiResponse for $name {
            fn meta() -> MetaResponses {
                let schema = MetaSchemaRef::Inline(Box::new(MetaSchema::new($ty)));
                let content_type = $content_type.split(';').next().unwrap_or($content_type);
                MetaResponses {
                    responses: vec![MetaResponse {
                        description: "Success.",
                        status: Some(200),
                        status_range: None,
                        content: vec![MetaMediaType { content_type, schema }],
                        headers: vec![],
                    }],
                }
            }
            fn register(_: &mut Registry) {}
        }
    };
}

text_type!(Markdown "text/markdown" "string");
text_type!(Linkset "application/linkset+json" "object");
text_type!(Document "application/vnd.oai.openapi+json; charset=utf-8" "object");

/// The server runs.
#[derive(Debug, Object)]
#[oai(rename = "Health")]
struct HealthView {
    status: HealthStatus,
}

/// The server runs.
#[derive(Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum HealthStatus {
    Ok,
}

/// The server can do its work.
#[derive(Debug, Object)]
#[oai(rename = "Readiness")]
struct ReadinessView {
    status: ReadinessStatus,
    checks: Vec<CheckView>,
}

/// The server can do its work.
#[derive(Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum ReadinessStatus {
    Ready,
}

/// Something that the server needs.
#[derive(Debug, Object)]
#[oai(rename = "ReadinessCheck")]
struct CheckView {
    name: String,
    ok: bool,
    detail: String,
}

/// The page of `/docs`: built once, everything it needs inside.
static DOCS: LazyLock<String> = LazyLock::new(openapi::docs_page);

/// The routes that need no key.
#[derive(Debug)]
pub struct Discovery;

#[OpenApi(tag = "Tag::Discovery")]
impl Discovery {
    /// Tell that the server runs.
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth")]
    async fn health(&self) -> Json<HealthView> {
        Json(HealthView { status: HealthStatus::Ok })
    }

    /// Tell whether the server can do its work.
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness")]
    async fn readiness(&self, context: Context) -> Result<Json<ReadinessView>, ApiError> {
        let checks = health::ready(context.app()).await;
        if checks.iter().any(|check| !check.ok) {
            let list =
                checks.iter().map(|c| json!({ "name": c.name, "ok": c.ok, "detail": c.detail }));
            let checks = list.collect::<Vec<_>>();
            return Err(ApiError::new(Code::Unavailable, "not ready").detail("checks", checks));
        }
        let view = |check: health::Check| CheckView {
            name: check.name.to_owned(),
            ok: check.ok,
            detail: check.detail,
        };
        let checks = checks.into_iter().map(view).collect();
        Ok(Json(ReadinessView { status: ReadinessStatus::Ready, checks }))
    }

    /// Get this description of the API.
    #[oai(path = "/openapi.json", method = "get", operation_id = "getOpenApi")]
    async fn openapi(&self, base: BaseUrl) -> Document {
        Document(openapi::PUBLIC.served_at(&base.0).to_string())
    }

    /// Browse this description of the API.
    #[oai(path = "/docs", method = "get", hidden)]
    async fn docs(&self) -> Html<String> {
        Html(DOCS.clone())
    }

    /// Get a short guide for language models.
    #[oai(path = "/llms.txt", method = "get", operation_id = "getApiLlmsTxt")]
    async fn llms_txt(&self, base: BaseUrl) -> Markdown {
        Markdown(LLMS_TXT.replace("{base}", &base.0))
    }

    /// Get a guide to authentication.
    #[oai(path = "/auth.md", method = "get", operation_id = "getAuthMd")]
    async fn auth_md(&self, base: BaseUrl) -> Markdown {
        Markdown(AUTH_MD.replace("{base}", &base.0))
    }

    /// Get links to all of these (RFC 9727).
    #[oai(path = "/.well-known/api-catalog", method = "get", operation_id = "getApiCatalog")]
    async fn api_catalog(&self, base: BaseUrl) -> Linkset {
        let link =
            |path: &str, ty: &str| json!([{ "href": format!("{}{path}", base.0), "type": ty }]);
        let linkset = json!({ "linkset": [{
            "anchor": base.0,
            "api-catalog": link("/.well-known/api-catalog", "application/linkset+json"),
            "authorization": link("/auth.md", "text/markdown"),
            "describedby": link("/llms.txt", "text/markdown"),
            "service-desc": link("/openapi.json", "application/vnd.oai.openapi+json"),
            "service-doc": link("/docs", "text/html"),
        }]});
        Linkset(linkset.to_string())
    }
}
