# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# Descriptors of a login as the server's user. A service takes its limit from the unit.

plan_limits() {
    wanted=$(awk '$2 == "hard" && $3 == "nofile" { print $4 }' "$here/limits.d/corecast.conf")
    ceiling=$(squeezed "$root/proc/sys/fs/nr_open") || ceiling=0
    if [ ! -d "$root/etc/security" ]; then
        note "no /etc/security: nothing here reads limits.d; a service has LimitNOFILE=$wanted in its unit"
    elif ! at_least "$ceiling" "$wanted"; then
        # A limit above the ceiling locks the user out.
        note "fs.nr_open is $ceiling, and a login with $wanted descriptors would fail: apply sysctl first"
        unseen=$((unseen + 1))
    else
        want_file "$here/limits.d/corecast.conf" /etc/security/limits.d/corecast.conf
    fi
}
