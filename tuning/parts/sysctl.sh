# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# Kernel settings of sysctl.d and of the profile, now and at every boot.

plan_sysctl() {
    own=$work/profile-sysctls
    : >"$own"
    each_rule "$profile_file" keep_own
    tcp_mem
    each_rule "$here/sysctl.d/90-corecast.conf" server_setting
    each_rule "$own" one_setting
    want_file "$here/sysctl.d/90-corecast.conf" /etc/sysctl.d/90-corecast.conf
    [ ! -s "$own" ] || want_file "$own" /etc/sysctl.d/92-corecast-profile.conf
}

keep_own() { printf '# %s\n# check: %s\n%s = %s\n\n' "$4" "$3" "$1" "$2" >>"$own"; }

# The profile overrides the file.
server_setting() { grep -q "^$1 = " "$own" || one_setting "$@"; }

# KEY VALUE RULE: a value that fulfills the rule is not changed, even if it is far beyond VALUE.
one_setting() {
    setting_path=/proc/sys/$(printf '%s' "${1#-}" | tr . /)
    if [ "$1" != "${1#-}" ] && [ ! -e "$root$setting_path" ]; then
        fine=$((fine + 1))
        say ok "${1#-}: not in this kernel, or its module is not loaded"
        return 0
    fi
    # As in sysctl.d, a leading "-" also means that the change may fail: in a namespace some settings belong to the host.
    [ "$1" = "${1#-}" ] || soft=yes
    want value "$setting_path" "$2" "$3"
    soft=no
}

# A share of memory, if the profile has one. Pages of 4 KiB.
tcp_mem() {
    percent=$(profile_says tcp_mem_percent)
    [ "${percent:-0}" -gt 0 ] || return 0
    most=$(awk -v percent="$percent" '/^MemTotal:/ { printf "%d", $2 / 4 * percent / 100 }' "$root/proc/meminfo")
    printf '# Unit: pages of all TCP buffers: normal, pressure, limit. %s %% of memory.\n# check: field 3 at least %s\n%s = %s %s %s\n' \
        "$percent" "$((most * 99 / 100))" net.ipv4.tcp_mem "$((most / 2))" "$((most * 3 / 4))" "$most" >>"$own"
}
