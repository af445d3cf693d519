# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# Busy polling before a sleep. Until the next boot; 0 in the profile means: no change.

plan_busypoll() {
    time=$(profile_says busy_poll_us)
    if [ "${time:-0}" -gt 0 ]; then
        want value /proc/sys/net/core/busy_poll "$time"
    else
        note "the profile $profile has no busy polling: net.core.busy_poll is not changed"
    fi
    nic=${interface:-$(default_interface)}
    for setting in napi_defer_hard_irqs gro_flush_timeout; do
        key=$setting
        [ "$setting" != gro_flush_timeout ] || key=gro_flush_timeout_ns
        number=$(profile_says "$key")
        [ "${number:-0}" -gt 0 ] || continue
        want value "/sys/class/net/$nic/$setting" "$number"
    done
}
