//! The process's own numbers: handovers and reloads. Written by the control thread and, during a handover, by homes.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

#[derive(Default, Debug)]
pub struct Life {
    /// Publications that went to the other process of a handover, and that came from it.
    pub handover_forwarded: AtomicU64,
    pub handover_received: AtomicU64,
    /// The most bytes that waited for it, and those that did not reach it.
    pub handover_bytes_peak: AtomicU64,
    pub handover_lost_bytes: AtomicU64,
    /// Reloads that were taken over, and that were not.
    pub reloads: AtomicU64,
    pub reloads_failed: AtomicU64,
    /// When the last one was taken over, in seconds since 1970; 0 for never. Whether the last one tried was.
    pub reloaded_at: AtomicU64,
    pub reload_failed_last: AtomicU64,
}

/// `Life` as the registry takes it.
#[derive(Debug)]
pub struct Shown(pub Arc<Life>);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let life = &self.0;
        let counters = [
            ("handover_forwarded", "Publications sent to the other process of a handover", &life.handover_forwarded),
            ("handover_received", "Publications of the other process of a handover", &life.handover_received),
            ("handover_lost_bytes", "Bytes that did not reach the other process", &life.handover_lost_bytes),
            ("config_reloads", "Reloads of the settings that were taken over", &life.reloads),
            ("config_reloads_failed", "Reloads that had faults and changed nothing", &life.reloads_failed),
        ];
        for (name, help, value) in counters {
            let value = value.load(Ordering::Relaxed);
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        let gauges = [
            (
                "handover_bytes_peak",
                "The most bytes that waited for the other process",
                life.handover_bytes_peak.load(Ordering::Relaxed),
            ),
            (
                "config_reload_success",
                "1 unless the last reload had faults",
                1 - life.reload_failed_last.load(Ordering::Relaxed).min(1),
            ),
            (
                "config_reloaded_at_seconds",
                "The last reload that was taken over, 0 for none",
                life.reloaded_at.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, value) in gauges {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}
