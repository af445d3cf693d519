# shellcheck shell=sh
# Values and their rules: sourced by tuning/check and tuning/tune.
#
# The line "# check:" above a value is its rule; "# cost:" is for the doctor; the other comment lines are its reason.

# at_least A B: whether A >= B, also for numbers that the shell cannot hold.
at_least() {
    case $1 in
        unlimited | infinity) return 0 ;;
    esac
    [ "${#1}" -eq "${#2}" ] || {
        [ "${#1}" -gt "${#2}" ]
        return
    }
    awk -v a="$1" -v b="$2" 'BEGIN { exit !((a "") >= (b "")) }'
}

# holds "VALUE" "RULE": RULE is "[field N] at least|at most|exactly NUMBER", several joined by commas.
holds() {
    rule_value=$1
    rule_rest=$2
    while [ -n "$rule_rest" ]; do
        rule_one=${rule_rest%%,*}
        case $rule_rest in
            *,*) rule_rest=${rule_rest#*,} ;;
            *) rule_rest='' ;;
        esac
        # shellcheck disable=SC2086 # the words of the rule
        set -- $rule_one
        rule_is=$rule_value
        if [ "$1" = field ]; then
            rule_is=$(printf '%s\n' "$rule_value" | awk -v n="$2" '{ print $n }')
            shift 2
        fi
        case "$1 ${2-}" in
            "at least") at_least "$rule_is" "$3" || return 1 ;;
            "at most") at_least "$3" "$rule_is" || return 1 ;;
            exactly*)
                shift
                [ "$rule_is" = "$*" ] || return 1
                ;;
            *)
                echo "cannot read the rule: $rule_one" >&2
                exit 64
                ;;
        esac
    done
}

# each_rule FILE FUNCTION: calls FUNCTION KEY VALUE RULE WHY for every "key = value" of the file whose key has a dot. A key
# keeps its leading "-", which means that the kernel may lack it.
each_rule() {
    line_why=''
    line_rule=''
    while IFS= read -r line_text <&3 || [ -n "$line_text" ]; do
        case $line_text in
            '')
                line_why=''
                line_rule=''
                ;;
            '# check: '*) line_rule=${line_text#'# check: '} ;;
            '# cost: '*) ;;
            '#'*) line_why="$line_why${line_why:+ }$(printf '%s' "${line_text#'#'}" | sed 's/^ //')" ;;
            *.*=*)
                line_key=$(printf '%s' "${line_text%%=*}" | tr -d ' ')
                line_value=$(printf '%s' "${line_text#*=}" | sed 's/^ *//; s/ *$//')
                "$2" "$line_key" "$line_value" "${line_rule:-exactly $line_value}" "$line_why"
                ;;
        esac
    done 3<"$1"
}

# squeezed FILE: its text on one line, with one space between fields. Fails if it cannot be read.
squeezed() {
    squeezed_text=$(cat "$1" 2>/dev/null) || return 1
    printf '%s\n' "$squeezed_text" | awk '{ $1 = $1; line = line (NR > 1 ? " " : "") $0 } END { print line }'
}
