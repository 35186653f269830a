package staunch

import (
	"errors"
	"structs"
	"time"
	"unsafe"
)

// What the proxy does for a plugin; wit/host.wit says more of each.

// ---- registration: for use within Configure ----

// Where a balancing key comes from. The last three take a name.
const (
	ClientAddress = iota
	Host
	Path
	PathAndQuery
	Header
	Cookie
	Query
)

// Which attempts a balancer hears of.
const (
	EveryAttempt = iota
	Failures
)

//go:wasmimport staunch:plugin/registration@0.1.0 want-key
func wantKey(source uint32, name string)

// WantKey adds a source of the balancing key.
func WantKey(source uint32, name string) { wantKey(source, name) }

//go:wasmimport staunch:plugin/registration@0.1.0 want-feedback
func wantFeedback(kind, batch uint32, maxAge uint64)

// WantFeedback says how outcomes are handed to feedback.
func WantFeedback(kind, batch uint32, maxAge time.Duration) { wantFeedback(kind, batch, uint64(maxAge)) }

//go:wasmimport staunch:plugin/registration@0.1.0 want-status
func wantStatus(first, last uint32)

// WantStatus asks a retry policy about responses with these statuses.
func WantStatus(first, last uint16) { wantStatus(uint32(first), uint32(last)) }

// WantNonIdempotent asks a retry policy about requests that are not idempotent, too.
//
//go:wasmimport staunch:plugin/registration@0.1.0 want-non-idempotent
func WantNonIdempotent()

// WantRequestField has a header passed to OnRequest; answers its position there.
//
//go:wasmimport staunch:plugin/registration@0.1.0 want-request-field
func WantRequestField(name string) uint32

// WantResponseField has a header passed to OnResponse; answers its position there.
//
//go:wasmimport staunch:plugin/registration@0.1.0 want-response-field
func WantResponseField(name string) uint32

// SkipRequests says that no request has to be shown.
//
//go:wasmimport staunch:plugin/registration@0.1.0 skip-requests
func SkipRequests()

// SkipResponses says that no response has to be shown.
//
//go:wasmimport staunch:plugin/registration@0.1.0 skip-responses
func SkipResponses()

// ---- config ----

//go:wasmimport staunch:plugin/config@0.1.0 get
func configGet(path string, out *MaybeBytes)

// Config is the setting at a path such as `limits.0.name`.
func Config(path string) (string, bool) {
	var out MaybeBytes
	configGet(path, &out)
	return out.Get()
}

//go:wasmimport staunch:plugin/config@0.1.0 keys
func configKeys(path string, out *Bytes)

// ConfigKeys are the names or positions under a path; "" is the whole.
func ConfigKeys(path string) []string { return textsNamed(configKeys, path) }

// ---- log ----

// How grave a line is.
const (
	Debug = iota
	Info
	Warn
	Error
)

// LogEnabled tells whether a line of this level would be kept.
//
//go:wasmimport staunch:plugin/log@0.1.0 enabled
func LogEnabled(level uint32) bool

// Log writes a line.
//
//go:wasmimport staunch:plugin/log@0.1.0 write
func Log(level uint32, message string)

// ---- metrics ----

// Counter names a counter.
//
//go:wasmimport staunch:plugin/metrics@0.1.0 counter
func Counter(name string) uint32

// Gauge names a gauge.
//
//go:wasmimport staunch:plugin/metrics@0.1.0 gauge
func Gauge(name string) uint32

//go:wasmimport staunch:plugin/metrics@0.1.0 histogram
func histogram(name string, bounds unsafe.Pointer, count uint32) uint32

// Histogram names a histogram with these upper bounds.
func Histogram(name string, bounds []float64) uint32 {
	return histogram(name, unsafe.Pointer(unsafe.SliceData(bounds)), uint32(len(bounds)))
}

// Add adds to a counter.
//
//go:wasmimport staunch:plugin/metrics@0.1.0 add
func Add(metric uint32, amount uint64)

// Set sets a gauge.
//
//go:wasmimport staunch:plugin/metrics@0.1.0 set
func Set(metric uint32, value float64)

// Record records a value in a histogram.
//
//go:wasmimport staunch:plugin/metrics@0.1.0 record-value
func Record(metric uint32, value float64)

// ---- shared ----

// Why a write was not done.
var (
	ErrFull     = errors.New("the quota is used up")
	ErrConflict = errors.New("the value changed")
)

// Cell names a shared 64-bit cell.
//
//go:wasmimport staunch:plugin/shared@0.1.0 cell
func Cell(name string) uint32

// Load reads a cell.
//
//go:wasmimport staunch:plugin/shared@0.1.0 load
func Load(cell uint32) uint64

// FetchAdd adds to a cell and answers the value before.
//
//go:wasmimport staunch:plugin/shared@0.1.0 fetch-add
func FetchAdd(cell uint32, amount uint64) uint64

// CompareExchange sets a cell to `new` if it is `current`, and answers the value before.
//
//go:wasmimport staunch:plugin/shared@0.1.0 compare-exchange
func CompareExchange(cell uint32, current, new uint64) uint64

type stored struct {
	_       structs.HostLayout
	isSome  bool
	_       [7]byte
	value   Bytes
	version uint64
}

//go:wasmimport staunch:plugin/shared@0.1.0 get
func sharedGet(key string, out *stored)

// SharedGet reads a value and its version.
func SharedGet(key string) (value string, version uint64, ok bool) {
	var out stored
	sharedGet(key, &out)
	return out.value.String(), out.version, out.isSome
}

type written struct {
	_       structs.HostLayout
	failed  bool
	outcome uint64
}

func (w written) result() (uint64, error) {
	switch {
	case !w.failed:
		return w.outcome, nil
	case w.outcome&0xff == 0:
		return 0, ErrFull
	}
	return 0, ErrConflict
}

//go:wasmimport staunch:plugin/shared@0.1.0 put
func sharedPut(key, value string, hasVersion bool, version uint64, out *written)

// SharedPut writes a value if its version is still `version` (nil: if it is absent), and answers the new version.
func SharedPut(key, value string, version *uint64) (uint64, error) {
	var out written
	sharedPut(key, value, version != nil, orZero(version), &out)
	return out.result()
}

//go:wasmimport staunch:plugin/shared@0.1.0 remember
func sharedRemember(key, value string, hasVersion bool, version, maxAge uint64, out *written)

// SharedRemember writes a value for a while.
func SharedRemember(key, value string, version *uint64, maxAge time.Duration) (uint64, error) {
	var out written
	sharedRemember(key, value, version != nil, orZero(version), uint64(maxAge), &out)
	return out.result()
}

// SharedDelete removes a value.
//
//go:wasmimport staunch:plugin/shared@0.1.0 delete
func SharedDelete(key string)

func orZero(version *uint64) uint64 {
	if version == nil {
		return 0
	}
	return *version
}

// ---- clock, random ----

// Monotonic is the monotonic clock in nanoseconds.
//
//go:wasmimport staunch:plugin/clock@0.1.0 monotonic
func Monotonic() uint64

//go:wasmimport staunch:plugin/clock@0.1.0 wall
func wall() uint64

// Wall is the time of day. The Go runtime's own clock stands still here.
func Wall() time.Time { return time.Unix(0, int64(wall())).UTC() }

// Random has 64 random bits, not for secrets.
//
//go:wasmimport staunch:plugin/random@0.1.0 next
func Random() uint64

// ---- loads: for balancers ----

// Active tells the requests in flight to an endpoint.
//
//go:wasmimport staunch:plugin/loads@0.1.0 active
func Active(endpoint uint32) uint32

//go:wasmimport staunch:plugin/loads@0.1.0 active-all
func activeAll(out *Bytes)

// ActiveAll are the requests in flight by slot, that is by the ID of an endpoint.
func ActiveAll() []uint32 {
	var out Bytes
	activeAll(&out)
	return append([]uint32(nil), Slice[uint32](out)...)
}

//go:wasmimport staunch:plugin/loads@0.1.0 latency
func latency(endpoint uint32) uint64

// Latency is the mean time to a response head; 0 when none is known.
func Latency(endpoint uint32) time.Duration { return time.Duration(latency(endpoint)) }

//go:wasmimport staunch:plugin/loads@0.1.0 latency-all
func latencyAll(out *Bytes)

// LatencyAll has them by slot.
func LatencyAll() []time.Duration {
	var out Bytes
	latencyAll(&out)
	return append([]time.Duration(nil), Slice[time.Duration](out)...)
}

// ---- selection: for use within Pick ----

//go:wasmimport staunch:plugin/selection@0.1.0 key
func selectionKey(out *MaybeBytes)

// Key has the bytes of the balancing key.
func Key() (string, bool) {
	var out MaybeBytes
	selectionKey(&out)
	return out.Get()
}

//go:wasmimport staunch:plugin/selection@0.1.0 tried
func selectionTried(out *Bytes)

// Tried are the endpoints that this request was sent to.
func Tried() []uint32 {
	var out Bytes
	selectionTried(&out)
	return append([]uint32(nil), Slice[uint32](out)...)
}

// AppendResponseField adds a header to the response, if it comes from the endpoint picked.
//
//go:wasmimport staunch:plugin/selection@0.1.0 append-response-field
func AppendResponseField(name, value string)

// ---- delegate: the balancer behind this one ----

// Why nothing was picked.
var (
	ErrUnavailable = errors.New("no endpoint may have traffic")
	ErrOverloaded  = errors.New("the request should go nowhere now")
)

// PickResult is what a pick comes to where the proxy reads or writes it.
type PickResult struct {
	_       structs.HostLayout
	Refused bool
	Value   uint32
}

//go:wasmimport staunch:plugin/delegate@0.1.0 group
func delegateGroup(endpoints unsafe.Pointer, count uint32) uint32

// Group makes a group of endpoints. For use within Update.
func Group(endpoints []uint32) uint32 {
	return delegateGroup(unsafe.Pointer(unsafe.SliceData(endpoints)), uint32(len(endpoints)))
}

//go:wasmimport staunch:plugin/delegate@0.1.0 pick
func delegatePick(group uint32, out *PickResult)

// PickFrom has the balancer behind this one pick from a group.
func PickFrom(group uint32) (uint32, error) {
	var out PickResult
	delegatePick(group, &out)
	switch {
	case !out.Refused:
		return out.Value, nil
	case out.Value&0xff == 0:
		return 0, ErrUnavailable
	}
	return 0, ErrOverloaded
}

// ---- pace: for rewriters of requests ----

//go:wasmimport staunch:plugin/pace@0.1.0 delay
func delay(duration uint64)

// Delay holds the request back.
func Delay(duration time.Duration) { delay(uint64(duration)) }

// ---- routing: for rewriters of requests ----

// HasUpstream tells whether the configuration has an upstream of this name.
//
//go:wasmimport staunch:plugin/routing@0.1.0 has-upstream
func HasUpstream(name string) bool

// SendTo has the request go to this upstream; false when there is none.
//
//go:wasmimport staunch:plugin/routing@0.1.0 send-to
func SendTo(name string) bool

// ---- request ----

//go:wasmimport staunch:plugin/request@0.1.0 method
func requestMethod(out *Bytes)

// Method is the request's method.
func Method() string { return text(requestMethod) }

//go:wasmimport staunch:plugin/request@0.1.0 scheme
func requestScheme(out *Bytes)

// Scheme is http or https.
func Scheme() string { return text(requestScheme) }

//go:wasmimport staunch:plugin/request@0.1.0 authority
func requestAuthority(out *Bytes)

// Authority is the host with its port.
func Authority() string { return text(requestAuthority) }

//go:wasmimport staunch:plugin/request@0.1.0 path-and-query
func requestPathAndQuery(out *Bytes)

// Target is the path with its query.
func Target() string { return text(requestPathAndQuery) }

//go:wasmimport staunch:plugin/request@0.1.0 client-address
func requestClientAddress(out *Bytes)

// Client is the client's address without its port.
func Client() string { return text(requestClientAddress) }

//go:wasmimport staunch:plugin/request@0.1.0 id
func requestID(out *Bytes)

// ID identifies the exchange.
func ID() string { return text(requestID) }

//go:wasmimport staunch:plugin/request@0.1.0 route
func requestRoute(out *Bytes)

// Route is the name of the route that matched.
func Route() string { return text(requestRoute) }

//go:wasmimport staunch:plugin/request@0.1.0 upstream
func requestUpstream(out *Bytes)

// Upstream is the name of the upstream it leads to.
func Upstream() string { return text(requestUpstream) }

//go:wasmimport staunch:plugin/request@0.1.0 field
func requestField(name string, out *MaybeBytes)

// RequestField is the first value of a header.
func RequestField(name string) (string, bool) { return maybe(requestField, name) }

//go:wasmimport staunch:plugin/request@0.1.0 field-values
func requestFieldValues(name string, out *Bytes)

// RequestFieldValues are all values of a header.
func RequestFieldValues(name string) []string { return textsNamed(requestFieldValues, name) }

//go:wasmimport staunch:plugin/request@0.1.0 fields
func requestFields(out *Bytes)

// RequestFields are all headers.
func RequestFields() []Field {
	var out Bytes
	requestFields(&out)
	return Fields(out)
}

//go:wasmimport staunch:plugin/request@0.1.0 note
func requestNote(name string, out *MaybeBytes)

// Note is what a plugin left on this exchange.
func Note(name string) (string, bool) { return maybe(requestNote, name) }

// SetNote leaves a note on this exchange.
//
//go:wasmimport staunch:plugin/request@0.1.0 set-note
func SetNote(name, value string)

// ---- response ----

//go:wasmimport staunch:plugin/response@0.1.0 status
func responseStatus() uint32

// Status is the response's status.
func Status() uint16 { return uint16(responseStatus()) }

//go:wasmimport staunch:plugin/response@0.1.0 endpoint
func responseEndpoint(out *Bytes)

// AnsweredBy is the address of the endpoint that answered.
func AnsweredBy() string { return text(responseEndpoint) }

//go:wasmimport staunch:plugin/response@0.1.0 field
func responseField(name string, out *MaybeBytes)

// ResponseField is the first value of a header.
func ResponseField(name string) (string, bool) { return maybe(responseField, name) }

//go:wasmimport staunch:plugin/response@0.1.0 field-values
func responseFieldValues(name string, out *Bytes)

// ResponseFieldValues are all values of a header.
func ResponseFieldValues(name string) []string { return textsNamed(responseFieldValues, name) }

//go:wasmimport staunch:plugin/response@0.1.0 fields
func responseFields(out *Bytes)

// ResponseFields are all headers.
func ResponseFields() []Field {
	var out Bytes
	responseFields(&out)
	return Fields(out)
}

func text(read func(*Bytes)) string {
	var out Bytes
	read(&out)
	return out.String()
}

func maybe(read func(string, *MaybeBytes), name string) (string, bool) {
	var out MaybeBytes
	read(name, &out)
	return out.Get()
}

func textsNamed(read func(string, *Bytes), name string) []string {
	var out Bytes
	read(name, &out)
	texts := make([]string, out.Len)
	for i, text := range Slice[Bytes](out) {
		texts[i] = text.String()
	}
	return texts
}
