//! Exports spans to an OpenTelemetry collector, by OTLP over gRPC. What waits is bounded: spans that a
//! collector does not take in time are dropped, and never keep a request waiting.

use std::time::Duration;

use anyhow::{Context, Result};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{
    SpanExporter, WithExportConfig, WithTonicConfig,
    tonic_types::transport::{Certificate, ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanLimits},
};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::config::Config;

/// Spans that wait for the collector.
const QUEUE: usize = 4_096;
/// Spans in one export.
const BATCH: usize = 512;
/// How long spans wait for others.
const DELAY: Duration = Duration::from_secs(2);
/// For one export.
const DEADLINE: Duration = Duration::from_secs(5);
/// For the last one.
const FLUSH: Duration = Duration::from_secs(5);
/// Events and attributes of one span.
const LIMITS: u32 = 64;

/// Our own crates: the exporter's spans would make more of themselves.
const OURS: [&str; 3] = ["api", "drivers", "store"];

/// Exports until it is ended.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

/// Makes the exporter that the settings ask for and what feeds it; `None` if they ask for none. Belongs
/// into the runtime that lasts longest.
///
/// # Errors
/// When a setting makes no sense. A collector that is away is none: it may come.
pub fn export<S>(config: &Config) -> Result<Option<(Exporter, impl Layer<S> + use<S>)>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
    let mut exporter =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(DEADLINE);
    if endpoint.starts_with("https://") {
        let mut tls = ClientTlsConfig::new().with_webpki_roots();
        if let Some(file) = &config.otlp_ca_file {
            let pem = std::fs::read(file);
            let pem = pem.with_context(|| format!("otlp_ca_file {}", file.display()))?;
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        exporter = exporter.with_tls_config(tls);
    }
    let exporter = exporter.build().context("otlp_endpoint")?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let resource = Resource::builder().with_service_name("crownest").with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("host.name", config.host.clone()),
    ]);
    let share = f64::from(config.otlp_sample_percent) / 100.0;
    let limits = SpanLimits {
        max_events_per_span: LIMITS,
        max_attributes_per_span: LIMITS,
        ..SpanLimits::default()
    };
    let provider = SdkTracerProvider::builder()
        .with_span_processor(batches)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
        .with_span_limits(limits)
        .with_resource(resource.build())
        .build();
    let targets = Targets::new().with_targets(OURS.map(|ours| (ours, LevelFilter::DEBUG)));
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("crownest"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(targets);
    Ok(Some((Exporter(provider), layer)))
}

impl Exporter {
    /// Sends what still waits, for as long as may be waited for it.
    pub async fn end(self) {
        // It blocks on a thread of its own that needs this runtime.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans did not reach the collector");
        }
    }
}
