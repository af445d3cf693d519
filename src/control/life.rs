//! The process's own numbers: those of a handover. Written by the control thread and, during a handover, by homes.

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
        ];
        for (name, help, value) in counters {
            let value = value.load(Ordering::Relaxed);
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        let help = "The most bytes that waited for the other process";
        let peak = life.handover_bytes_peak.load(Ordering::Relaxed);
        encoder.encode_descriptor("handover_bytes_peak", help, None, MetricType::Gauge)?.encode_gauge(&peak)?;
        Ok(())
    }
}
