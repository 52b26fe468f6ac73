//! Which operator asks, and whether they may: credential, rate, role, in that order, before anything
//! else of a request is looked at. The first argument of every operation of the admin API.

use std::{ops::Deref, sync::Arc};

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use domain::Refused;

use super::{
    auth::{bearer, count, origin},
    drain, query,
};
use crate::{
    app::{App, admin::AdminCaller},
    http::{
        context::Context,
        error::ApiError,
        operations::{self, Needs},
    },
};

const ADMIN_KEY: &str = "adminKeyAuth";

/// An operator whose role may call the operation.
#[derive(Debug)]
pub struct Admin {
    app: Arc<App>,
    caller: AdminCaller,
}

impl Deref for Admin {
    type Target = AdminCaller;
    fn deref(&self) -> &AdminCaller {
        &self.caller
    }
}

impl Admin {
    /// What use cases work with.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }
}

impl<'a> ApiExtractor<'a> for Admin {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "http",
            description: Some("An admin key as `Authorization: Bearer cn_admin_...`."),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(ADMIN_KEY, scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![ADMIN_KEY]
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        match admit(request).await {
            Ok(caller) => Ok(Self { app: Arc::clone(Context::of(request).app()), caller }),
            Err(error) => {
                drain(body).await;
                Err(error.into())
            }
        }
    }
}

async fn admit(request: &Request) -> Result<AdminCaller, ApiError> {
    let context = Context::of(request);
    let app = context.app();
    let origin = origin(request, app.config.trust_forwarded_for);
    let caller =
        app.auth.authenticate_admin(bearer(request), context.request_id(), &origin).await?;
    count(context, caller.key.id.uuid())?;
    let operation = operations::of(request);
    let Needs::Role(roles) = operation.needs else {
        // The table's test keeps such a row from being here.
        return Err(ApiError::not_found());
    };
    if let Err(refused) = caller.may(roles) {
        caller.note_refusal(app, operation.id, request.original_uri().path()).await?;
        return Err(ApiError::lacks_role(roles)(refused));
    }
    only_known_parameters(request)?;
    Ok(caller)
}

/// A misspelled filter would list everything.
fn only_known_parameters(request: &Request) -> Result<(), Refused> {
    for (name, _) in query::pairs(request) {
        if !operations::query_parameters(request).any(|known| known == name) {
            return Err(Refused::invalid(&name, format!("{name} is no parameter of this route")));
        }
    }
    Ok(())
}
