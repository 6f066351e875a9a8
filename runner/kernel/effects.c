/* Draws the effects of several variations on raw video, in one pass: rotation, zoom, shift, mirror, colour, noise.
 *
 *   effects WIDTH HEIGHT RECIPE...        reads frames from descriptor 3, writes those of recipe n to 4 + n
 *   effects PATH WIDTH HEIGHT RECIPE...   the same by one path: `scalar`, `base` or `wide`; for tests
 *   ... RECIPE... compared STEP OTHER...  also measures how far these recipes lie from the source and from each other
 *
 * Frames are yuv420p, 8 bit, rows without padding; WIDTH and HEIGHT are even, 2 to 8192. A recipe is nine decimals
 * with a colon between them: rotation (radians), zoom, shift_x, shift_y, mirror (0 or 1), brightness, contrast,
 * saturation, noise. The output depends on nothing but the frames and the recipe: all paths write the same bytes.
 * Ends with 0 at the end of whole frames; with 1 and one line on stderr if a frame is cut off, an output is closed,
 * memory is short, or an argument is wrong.
 *
 * `compared` changes no frame. One frame of STEP, the middle one, is made small (its brightness alone), and each recipe
 * and each OTHER (up to 128 that are not written) is drawn on the small picture, without its noise. At the end
 * the lines `source_N=D` and `sibling_N=D` on stdout say how far recipe N lies from the source and from the nearest of
 * all other recipes: the mean difference of 32x18 grey cells, in millionths of the range from black to white. A line is
 * left out if nothing was compared.
 *
 * No library is linked: what is not here cannot be called in the jail, and a build takes a second. Each buffer ends
 * at a page that nobody may touch (with AT_THE_START it begins behind one: a build for tests).
 *
 * The picture is that of FFmpeg's `perspective` (linear), `hflip`, `lutyuv` and `noise=alls=N:allf=t`, in that order.
 * For small angles the map is two passes over one row: each column is interpolated between two rows (which two is
 * constant over long runs of columns), and the row that this gives is resampled along x (the step is at most 1, so
 * of 16 pixels in a row those before some place are moved by d, and those after it by d - 1). Points outside of
 * the picture take the pixel of its edge.
 */
#include <stddef.h>
#include <stdint.h>

enum {
    SIDE_MAX = 8192,
    RECIPES_MAX = 16,
    OTHERS_MAX = 128,  /* recipes that are compared, but not written */
    SMALL_LONG = 128, SMALL_SHORT = 72, CELL = 4, /* sides of a small picture, and of a cell of it */
    CELLS = SMALL_LONG / CELL * (SMALL_SHORT / CELL),
    RANGE = 235 - 16,  /* of brightness, from black to white */
    MILLION = 1000000,
    LANES = 16,
    ONE = 1 << 6,      /* of the values between the two passes: 6 bits after the point */
    INPUT = 3, FIRST_OUTPUT = 4, /* descriptors */
    STARTS = 1024,     /* where in the table of noise a row may begin */
    PIPE_BYTES = 1 << 20,
    PAGE_BYTES = 1 << 16, /* the largest that Linux has on these machines */
};

typedef int16_t Lanes __attribute__((vector_size(2 * LANES)));
typedef uint16_t UnsignedLanes __attribute__((vector_size(2 * LANES)));
typedef int32_t WideLanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t UnsignedWideLanes __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(LANES)));
typedef int8_t SignedBytes __attribute__((vector_size(LANES)));

typedef struct {
    double rotation, zoom, shift_x, shift_y, mirror, brightness, contrast, saturation, noise;
} Recipe;

typedef struct { /* one plane's map: the source of output (x, y) is at u + x * u_x + y * u_y, v + x * v_x + y * v_y */
    int width, height;
    int64_t u, v, u_x, u_y, v_x, v_y; /* 32 bits after the point */
    int64_t v_u;                      /* how much v grows with each column of the source along a row of the output */
} Map;

typedef struct {
    int factor, offset; /* out = clip(((in << 8) * factor >> 16) + offset >> 6): 14 and 6 bits after the point */
} Light;

typedef struct { /* what a row of one plane needs besides its map */
    Light light;
    const int8_t *grain; /* NULL without noise */
    uint32_t salt;       /* with the row's number it says where in the grain a row begins */
    int is_mirrored;
} Finish;

typedef struct {
    int16_t *middle; /* one row between the passes, LANES before and after it */
    uint8_t *row;    /* one row before it is turned around */
} Scratch;

static int clamp(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

/* --- the system: Linux's calls, by their numbers in asm/unistd.h --------------------------------------------- */

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, MMAP = 9, MPROTECT = 10, RT_SIGACTION = 13, FCNTL = 72, EXIT_GROUP = 231 };

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, MMAP = 222, MPROTECT = 226, RT_SIGACTION = 134, FCNTL = 25, EXIT_GROUP = 94 };

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tb begin\n");
#else
#error "the numbers of this machine's calls are not known"
#endif

enum { STDOUT = 1, STDERR = 2, INTERRUPTED = -4, SET_PIPE_SIZE = 1031, SIGNAL_PIPE = 13, IGNORE = 1 };
enum { NO_ACCESS = 0, READ_WRITE = 3, PRIVATE_ANONYMOUS = 0x22 };

/* A compiler calls these two by itself. */
__attribute__((no_builtin)) void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    for (size_t n = 0; n < size; n++) ((uint8_t *)to)[n] = ((const uint8_t *)from)[n];
    return to;
}

__attribute__((no_builtin)) void *memset(void *to, int value, size_t size) {
    for (size_t n = 0; n < size; n++) ((uint8_t *)to)[n] = (uint8_t)value;
    return to;
}

static int complain(const char *what) {
    char line[80] = "effects: ";
    size_t size = 9;
    for (; *what && size < sizeof line - 1; what++) line[size++] = *what;
    line[size++] = '\n';
    call(WRITE, STDERR, (long)line, (long)size, 0, 0, 0);
    return 1;
}

/* Return zeroed memory between pages that nobody may touch, or NULL. */
static void *block(size_t size) {
    size_t room = (size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    long start = call(MMAP, 0, (long)room + 2 * PAGE_BYTES, NO_ACCESS, PRIVATE_ANONYMOUS, -1, 0);
    if (start < 0 && start > -4096) return NULL;
    start += PAGE_BYTES;
    if (call(MPROTECT, start, (long)room, READ_WRITE, 0, 0, 0)) return NULL;
#ifndef AT_THE_START
    start += (long)(room - size);
#endif
    return (void *)start;
}

/* Return how many bytes came before the end, or less than 0. */
static long read_all(int descriptor, uint8_t *to, size_t size) {
    size_t done = 0;
    while (done < size) {
        long some = call(READ, descriptor, (long)(to + done), (long)(size - done), 0, 0, 0);
        if (some == INTERRUPTED) continue;
        if (some < 0) return some;
        if (some == 0) break;
        done += (size_t)some;
    }
    return (long)done;
}

static int write_all(int descriptor, const uint8_t *from, size_t size) {
    for (size_t done = 0; done < size;) {
        long some = call(WRITE, descriptor, (long)(from + done), (long)(size - done), 0, 0, 0);
        if (some == INTERRUPTED) continue;
        if (some < 0) return -1;
        done += (size_t)some;
    }
    return 0;
}

/* Have an output that nobody reads be an error of `write`, not the end. */
static void ignore_closed_pipes(void) {
    struct {
        uintptr_t handler, flags, restorer, mask;
    } action = {IGNORE, 0, 0, 0};
    call(RT_SIGACTION, SIGNAL_PIPE, (long)&action, 0, sizeof action.mask, 0, 0);
}

/* More at once, fewer turns. What is no pipe, or may not be so large, stays as it is. */
static void enlarge(int descriptor) { call(FCNTL, descriptor, SET_PIPE_SIZE, PIPE_BYTES, 0, 0, 0); }

/* --- the map ---------------------------------------------------------------------------------------------- */

static double room(double side, double other, double zoom, double cosine, double sine) {
    double left = side / 2 - (side * cosine + other * sine) / (2 * zoom);
    return left > 0 ? left : 0;
}

/* Sine and cosine by their series: no library's rounding may change a frame. Exact to a double for |angle| < 0.5. */
static double sine_of(double t) {
    double s = t * t;
    return t * (1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110 * (1 - s / 156))))));
}

static double cosine_of(double t) {
    double s = t * t;
    return 1 - s / 2 * (1 - s / 12 * (1 - s / 30 * (1 - s / 56 * (1 - s / 90 * (1 - s / 132)))));
}

static int64_t fixed(double value) { return (int64_t)(value * 4294967296.0 + (value < 0 ? -0.5 : 0.5)); }

/* Undo zoom about the middle of the pixels, then rotation about that of the picture, as runner/graph.py does. */
static Map map_of(const Recipe *recipe, int width, int height, int halved) {
    double sine = sine_of(recipe->rotation), cosine = cosine_of(recipe->rotation);
    double turned = sine < 0 ? -sine : sine;
    double half_x = width / 2.0, half_y = height / 2.0, scale = halved ? 0.5 : 1.0;
    double middle_x = (width - 1) / 2.0, middle_y = (height - 1) / 2.0;
    double dx = middle_x - middle_x / recipe->zoom - half_x, dy = middle_y - middle_y / recipe->zoom - half_y;
    double u = cosine * dx + sine * dy + half_x, v = -sine * dx + cosine * dy + half_y;
    u += recipe->shift_x * room(width - 1, height - 1, recipe->zoom, cosine, turned);
    v += recipe->shift_y * room(height - 1, width - 1, recipe->zoom, cosine, turned);
    return (Map){
        .width = halved ? width / 2 : width,
        .height = halved ? height / 2 : height,
        .u = fixed(u * scale),
        .v = fixed(v * scale),
        .u_x = fixed(cosine / recipe->zoom),
        .u_y = fixed(sine / recipe->zoom),
        .v_x = fixed(-sine / recipe->zoom),
        .v_y = fixed(cosine / recipe->zoom),
        .v_u = fixed(-sine / cosine),
    };
}

/* --- one row, the plain way: what every path has to write ------------------------------------------------- */

typedef struct { /* where a block of columns lies between two rows of the source */
    int top;         /* the upper row, perhaps outside of the picture */
    uint16_t part;   /* how far below it the first column is: 16 bits after the point */
    int16_t step;    /* from column to column */
} Slope;

static inline Slope slope_at(const Map *map, int64_t v, int column) {
    int64_t at = (v + map->v_u * column) >> 16;
    return (Slope){.top = (int)(at >> 16), .part = (uint16_t)at, .step = (int16_t)(map->v_u >> 16)};
}

static inline int16_t between(int upper, int lower, int part8) {
    return (int16_t)((upper * (256 - part8) + lower * part8) >> 2);
}

static inline void column_plain(const uint8_t *from, const Map *map, Slope slope, int n, int column, int16_t *to) {
    int at = (slope.top * 65536) + slope.part + n * slope.step;
    int upper = clamp(at >> 16, 0, map->height - 1), lower = clamp((at >> 16) + 1, 0, map->height - 1);
    int x = clamp(column, 0, map->width - 1);
    *to = between(from[(size_t)upper * map->width + x], from[(size_t)lower * map->width + x], at >> 8 & 255);
}

static inline void block_down_plain(const uint8_t *from, const Map *map, Slope slope, int column, int count,
                                    int16_t *to) {
    for (int n = 0; n < count; n++) column_plain(from, map, slope, n, column + n, to + n);
}

static inline int finished(int value, Light light, int grain) {
    int whole = (value + ONE / 2) >> 6;
    int lit = clamp((((whole << 8) * light.factor >> 16) + light.offset) >> 6, 0, 255);
    return clamp(lit + grain, 0, 255);
}

/* `at` is the source of the first pixel, counted from middle[0]: 32 bits after the point. */
static inline void block_along_plain(const int16_t *middle, int64_t at, int64_t step, int count, Light light,
                                     const int8_t *grain, uint8_t *to) {
    for (int n = 0; n < count; n++) {
        int64_t place = at + n * step;
        int left = middle[place >> 32], right = middle[(place >> 32) + 1], part15 = (int)(place >> 17) & 32767;
        to[n] = (uint8_t)finished(left + (2 * (right - left) * part15 >> 16), light, grain ? grain[n] : 0);
    }
}

/* --- the same in lanes ------------------------------------------------------------------------------------- */

#define INLINE static inline __attribute__((always_inline))

static const Lanes COUNT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#define LOADED(type, from) (__extension__({ type loaded_; __builtin_memcpy(&loaded_, (from), sizeof loaded_); loaded_; }))
#define HIGH(a, b) __builtin_convertvector( \
    (__builtin_convertvector((a), WideLanes) * __builtin_convertvector((b), WideLanes)) >> 16, Lanes)
#define HIGH_UNSIGNED(a, b) __builtin_convertvector( \
    (__builtin_convertvector((a), UnsignedWideLanes) * __builtin_convertvector((b), UnsignedWideLanes)) >> 16, \
    UnsignedLanes)
#define CHOSEN(mask, a, b) (((mask) & (a)) | (~(mask) & (b)))
#if __has_builtin(__builtin_elementwise_max)
#define LARGER(a, b) __builtin_elementwise_max(a, b)
#define SMALLER(a, b) __builtin_elementwise_min(a, b)
#else
#define LARGER(a, b) CHOSEN((a) > (b), a, b)
#define SMALLER(a, b) CHOSEN((a) < (b), a, b)
#endif

INLINE UnsignedLanes rows_mixed(const uint8_t *upper, const uint8_t *lower, UnsignedLanes part8) {
    UnsignedLanes a = __builtin_convertvector(LOADED(Bytes, upper), UnsignedLanes);
    UnsignedLanes b = __builtin_convertvector(LOADED(Bytes, lower), UnsignedLanes);
    return (a * (256 - part8) + b * part8) >> 2;
}

/* All of the block is between the same two rows, which lie in the picture, as do its columns. */
INLINE void block_down(const uint8_t *upper, int width, Slope slope, int16_t *to) {
    UnsignedLanes part8 = ((UnsignedLanes)COUNT * (uint16_t)slope.step + slope.part) >> 8;
    UnsignedLanes value = rows_mixed(upper, upper + width, part8);
    __builtin_memcpy(to, &value, sizeof value);
}

/* From some column on the block is between the next two rows, or the previous two where it rises. All lie in the
 * picture, as do the columns. In those lanes the place has left its 16 bits, once: the slope is gentle. */
INLINE void block_across(const uint8_t *upper, int width, Slope slope, int16_t *to) {
    UnsignedLanes start = (UnsignedLanes){0} + slope.part, at = start + (UnsignedLanes)COUNT * (uint16_t)slope.step;
    const uint8_t *next = slope.step > 0 ? upper + width : upper - width;
    UnsignedLanes is_beyond = (UnsignedLanes)(slope.step > 0 ? at < start : at > start);
    UnsignedLanes here = rows_mixed(upper, upper + width, at >> 8), there = rows_mixed(next, next + width, at >> 8);
    UnsignedLanes value = CHOSEN(is_beyond, there, here);
    __builtin_memcpy(to, &value, sizeof value);
}

INLINE Lanes clipped(Lanes value) {
    Lanes low = {0}, high = low + 255;
    return SMALLER(LARGER(value, low), high);
}

INLINE Bytes turned(Bytes b) {
    return __builtin_shufflevector(b, b, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

/* `lags` is how far each lane's place is behind whole steps: 32 bits after the point. The place of a lane that lags
 * by more than the first pixel's part is between pixels one further left. */
INLINE Bytes block_along(const int16_t *middle, int64_t at, UnsignedWideLanes lags, Light light, const int8_t *grain) {
    const int16_t *first = middle + (at >> 32);
    UnsignedWideLanes part = (UnsignedWideLanes){0} + (uint32_t)at;
    Lanes here = LOADED(Lanes, first), next = LOADED(Lanes, first + 1), before = LOADED(Lanes, first - 1);
    Lanes is_behind = __builtin_convertvector(lags > part, Lanes);
    Lanes left = CHOSEN(is_behind, before, here), right = CHOSEN(is_behind, here, next);
    Lanes part15 = __builtin_convertvector((part - lags) >> 17, Lanes);
    Lanes value = left + HIGH((right - left) * 2, part15);
    UnsignedLanes whole = (UnsignedLanes)(value + ONE / 2) >> 6 << 8;
    UnsignedLanes factor = (UnsignedLanes){0} + (uint16_t)light.factor;
    Lanes lit = clipped(((Lanes)HIGH_UNSIGNED(whole, factor) + (int16_t)light.offset) >> 6);
    if (grain) lit = clipped(lit + __builtin_convertvector(LOADED(SignedBytes, grain), Lanes));
    return __builtin_convertvector(lit, Bytes);
}

/* --- planes ------------------------------------------------------------------------------------------------- */

static uint32_t mixed(uint32_t state) { /* lowbias32 of Chris Wellons, in the public domain */
    state = (state ^ state >> 16) * 0x7feb352dU;
    state = (state ^ state >> 15) * 0x846ca68bU;
    return state ^ state >> 16;
}

INLINE void row_down(const uint8_t *from, const Map *map, int64_t v, int first, int count, int16_t *to, int in_lanes) {
    for (int n = 0; n < count; n += LANES) {
        int column = first + n;
        Slope slope = slope_at(map, v, column);
        int change = (LANES - 1) * slope.step, last = slope.part + change;
        int is_flat = last >= 0 && last < 65536, is_gentle = change > -65536 && change < 65536;
        int highest = slope.top - (last < 0), lowest = slope.top + 1 + (last >= 65536); /* rows, counted from above */
        int is_inside = highest >= 0 && lowest < map->height && column >= 0 && column + LANES <= map->width;
        if (!in_lanes || !is_inside || !is_gentle) {
            block_down_plain(from, map, slope, column, LANES, to + n);
            continue;
        }
        const uint8_t *upper = from + (size_t)slope.top * map->width + column;
        if (is_flat)
            block_down(upper, map->width, slope, to + n);
        else
            block_across(upper, map->width, slope, to + n);
    }
}

INLINE void row_along(const int16_t *middle, int64_t at, const Map *map, Finish finish, const int8_t *grain,
                      uint8_t *to, uint8_t *scratch, int in_lanes) {
    int64_t step = map->u_x, lag = (1LL << 32) - step;
    int in_blocks = in_lanes && lag * LANES < 1LL << 32 ? map->width / LANES * LANES : 0, x = 0;
    UnsignedWideLanes lags = __builtin_convertvector(COUNT, UnsignedWideLanes) * (uint32_t)lag;
    for (; x < in_blocks; x += LANES) {
        Bytes done = block_along(middle, at + x * step, lags, finish.light, grain ? grain + x : NULL);
        if (finish.is_mirrored) done = turned(done);
        __builtin_memcpy(to + (finish.is_mirrored ? map->width - LANES - x : x), &done, sizeof done);
    }
    if (x == map->width) return;
    block_along_plain(middle, at + x * step, step, map->width - x, finish.light, grain ? grain + x : NULL, scratch);
    for (int n = 0; x + n < map->width; n++) to[finish.is_mirrored ? map->width - 1 - x - n : x + n] = scratch[n];
}

INLINE void plane_of(const uint8_t *from, uint8_t *to, const Map *map, Finish finish, Scratch scratch, int in_lanes) {
    for (int y = 0; y < map->height; y++) {
        int64_t u = map->u + y * map->u_y, v = map->v + y * map->v_y;
        int first = (int)(u >> 32), last = (int)((u + (map->width - 1) * map->u_x) >> 32) + 1;
        /* v of column 0, for the row: at column c it is that of the pixel whose source is there */
        int64_t row_v = v - (int64_t)((double)map->v_u / 4294967296.0 * (double)u);
        const int8_t *grain = finish.grain ? finish.grain + mixed(finish.salt + (uint32_t)y) % STARTS : NULL;
        row_down(from, map, row_v, first, last - first + 1, scratch.middle, in_lanes);
        row_along(scratch.middle, u - first * (1LL << 32), map, finish, grain, to + (size_t)y * map->width,
                  scratch.row, in_lanes);
    }
}

typedef void PlanePath(const uint8_t *from, uint8_t *to, const Map *map, Finish finish, Scratch scratch);

static void plane_scalar(const uint8_t *from, uint8_t *to, const Map *map, Finish finish, Scratch scratch) {
    plane_of(from, to, map, finish, scratch, 0);
}

static void plane_base(const uint8_t *from, uint8_t *to, const Map *map, Finish finish, Scratch scratch) {
    plane_of(from, to, map, finish, scratch, 1);
}

#if defined(__x86_64__)
#include <cpuid.h>

__attribute__((target("avx2"))) static void plane_wide(const uint8_t *from, uint8_t *to, const Map *map,
                                                       Finish finish, Scratch scratch) {
    plane_of(from, to, map, finish, scratch, 1);
}

static int has_wide(void) { /* AVX2, and a system that keeps its registers */
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}
#else /* elsewhere the base has all lanes there are */
#define plane_wide plane_base
static int has_wide(void) { return 1; }
#endif

/* --- variations --------------------------------------------------------------------------------------------- */

typedef struct {
    Map map, chroma_map;
    Light light, chroma_light;
    int is_mirrored, has_grain;
    uint32_t seed;
    int8_t grain[SIDE_MAX + STARTS];
} Variation;

static Light light_of(double factor, double offset) {
    double half = ONE / 2.0 + 0.5; /* the second: of what the product loses, on average */
    double shift = ONE * (128 * (1 - factor) + offset) + half;
    return (Light){.factor = (int)(factor * 16384 + 0.5), .offset = (int)(shift + 0.5 + 65536) - 65536};
}

/* FFmpeg's grain: normal, of deviation strength / sqrt(3), its fraction cut off. Normal by a sum of 12 draws. */
static void fill_grain(int8_t *grain, size_t count, double strength, uint32_t seed) {
    for (size_t n = 0; n < count; n++) {
        int32_t sum = -12 * 32768;
        for (uint32_t draw = 0; draw < 12; draw++) sum += (int32_t)(mixed(seed + (uint32_t)n * 12 + draw) >> 16);
        grain[n] = (int8_t)clamp((int)(sum / 65536.0 * strength / 1.7320508075688772), -128, 127);
    }
}

static void prepare(Variation *variation, const Recipe *recipe, uint32_t seed, int width, int height) {
    variation->map = map_of(recipe, width, height, 0);
    variation->chroma_map = map_of(recipe, width, height, 1);
    variation->light = light_of(recipe->contrast, 255 * recipe->brightness);
    variation->chroma_light = light_of(recipe->saturation, 0);
    variation->is_mirrored = recipe->mirror != 0;
    variation->has_grain = recipe->noise > 0;
    variation->seed = seed;
    fill_grain(variation->grain, sizeof variation->grain, recipe->noise, seed);
}

static void draw(const Variation *variation, const uint8_t *from, uint8_t *to, uint32_t frame, PlanePath *path,
                 Scratch scratch) {
    size_t luma = (size_t)variation->map.width * variation->map.height, done = 0;
    for (uint32_t plane = 0; plane < 3; plane++) {
        Finish finish = {
            .light = plane ? variation->chroma_light : variation->light,
            .grain = variation->has_grain ? variation->grain : NULL,
            .salt = mixed(mixed(variation->seed + frame) + plane),
            .is_mirrored = variation->is_mirrored,
        };
        path(from + done, to + done, plane ? &variation->chroma_map : &variation->map, finish, scratch);
        done += plane ? luma / 4 : luma;
    }
}

/* --- how far recipes lie apart ------------------------------------------------------------------------------- */

typedef struct {
    Map map;
    Light light;
    int is_mirrored;
} Small; /* a recipe as it is drawn on a small picture */

typedef struct {
    uint32_t step; /* 0: nothing is compared */
    int width, height, written, count; /* of the small pictures; of their recipes, of which the first are written */
    uint64_t pictures;
    Small recipes[RECIPES_MAX + OTHERS_MAX];
    uint16_t cells[RECIPES_MAX + OTHERS_MAX + 1][CELLS]; /* sums; the last are those of the source */
    uint64_t apart[RECIPES_MAX][RECIPES_MAX + OTHERS_MAX + 1];
} Comparison;

static void add_to(Comparison *comparison, const Recipe *recipe) {
    comparison->recipes[comparison->count++] = (Small){
        .map = map_of(recipe, comparison->width, comparison->height, 0),
        .light = light_of(recipe->contrast, 255 * recipe->brightness),
        .is_mirrored = recipe->mirror != 0,
    };
}

static int larger(int one, int other) { return one > other ? one : other; }

/* Each pixel is the mean of its part of the picture; a picture with fewer pixels repeats some. */
static void shrink(const uint8_t *from, int width, int height, uint8_t *to, int across, int down) {
    for (int y = 0; y < down; y++) {
        int top = y * height / down, bottom = larger((y + 1) * height / down, top + 1);
        for (int x = 0; x < across; x++) {
            int left = x * width / across, right = larger((x + 1) * width / across, left + 1);
            uint32_t sum = 0, pixels = (uint32_t)(right - left) * (uint32_t)(bottom - top);
            for (int row = top; row < bottom; row++)
                for (int column = left; column < right; column++) sum += from[(size_t)row * (size_t)width + column];
            to[y * across + x] = (uint8_t)((sum + pixels / 2) / pixels);
        }
    }
}

static void sum_cells(const uint8_t *picture, int width, int height, uint16_t *cells) {
    memset(cells, 0, CELLS * sizeof *cells);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) cells[y / CELL * (width / CELL) + x / CELL] += picture[y * width + x];
}

static void compare(Comparison *all, const uint8_t *frame, int width, int height, PlanePath *path, Scratch scratch,
                    uint8_t *from, uint8_t *to) {
    shrink(frame, width, height, from, all->width, all->height);
    sum_cells(from, all->width, all->height, all->cells[all->count]);
    for (int n = 0; n < all->count; n++) {
        const Small *recipe = &all->recipes[n];
        path(from, to, &recipe->map, (Finish){.light = recipe->light, .is_mirrored = recipe->is_mirrored}, scratch);
        sum_cells(to, all->width, all->height, all->cells[n]);
    }
    for (int n = 0; n < all->written; n++)
        for (int m = 0; m <= all->count; m++)
            for (int cell = 0; cell < CELLS; cell++) {
                int difference = all->cells[n][cell] - all->cells[m][cell];
                all->apart[n][m] += (uint64_t)(difference < 0 ? -difference : difference);
            }
    all->pictures++;
}

static void say(const char *name, int number, uint64_t value) {
    char line[64], digits[20];
    size_t size = 0, length = 0;
    for (; *name; name++) line[size++] = *name;
    if (number >= 10) line[size++] = (char)('0' + number / 10);
    line[size++] = (char)('0' + number % 10);
    line[size++] = '=';
    do digits[length++] = (char)('0' + value % 10);
    while (value /= 10);
    while (length) line[size++] = digits[--length];
    line[size++] = '\n';
    write_all(STDOUT, (const uint8_t *)line, size);
}

static uint64_t millionths(uint64_t apart, uint64_t range) {
    return apart < range ? apart * MILLION / range : MILLION; /* some pixels are beyond black or white */
}

/* A failure to say it is none of the pictures. */
static void say_distances(const Comparison *all) {
    uint64_t range = all->pictures * CELLS * CELL * CELL * RANGE;
    for (int n = 0; range && n < all->written; n++) {
        uint64_t nearest = UINT64_MAX;
        for (int m = 0; m < all->count; m++)
            if (m != n && all->apart[n][m] < nearest) nearest = all->apart[n][m];
        say("source_", n, millionths(all->apart[n][all->count], range));
        if (nearest != UINT64_MAX) say("sibling_", n, millionths(nearest, range));
    }
}

/* --- the run ------------------------------------------------------------------------------------------------ */

static int run(const Variation *variations, int count, int width, int height, PlanePath *path, Comparison *all) {
    size_t size = (size_t)width * (size_t)height * 3 / 2, room = (size_t)larger(width, SMALL_LONG) + 4 * LANES;
    uint8_t *from = block(size), *to = block(size), *row = block((size_t)larger(width, SMALL_LONG));
    uint8_t *small = block(SMALL_LONG * SMALL_SHORT), *drawn = block(SMALL_LONG * SMALL_SHORT);
    int16_t *middle = block(room * sizeof *middle);
    if (!from || !to || !row || !middle || !small || !drawn) return complain("memory is short");
    Scratch scratch = {.middle = middle + LANES, .row = row};
    for (uint32_t frame = 0;; frame++) {
        long got = read_all(INPUT, from, size);
        if (got == 0) {
            say_distances(all);
            return 0;
        }
        if (got != (long)size) return complain("a frame is cut off");
        if (all->step && frame % all->step == all->step / 2)
            compare(all, from, width, height, path, scratch, small, drawn);
        for (int n = 0; n < count; n++) {
            draw(&variations[n], from, to, frame, path, scratch);
            if (write_all(FIRST_OUTPUT + n, to, size)) return complain("an output is closed");
        }
    }
}

/* --- arguments ---------------------------------------------------------------------------------------------- */

static int is_in(double value, double low, double high) { return value >= low && value <= high; }

/* What keeps all arithmetic above within its types. */
static int is_sound(const Recipe *r) {
    return is_in(r->rotation, -0.1, 0.1) && is_in(r->zoom, 1, 4) && is_in(r->shift_x, -1, 1) &&
           is_in(r->shift_y, -1, 1) && is_in(r->mirror, 0, 1) && is_in(r->brightness, -0.5, 0.5) &&
           is_in(r->contrast, 0.5, 1.5) && is_in(r->saturation, 0, 1.5) && is_in(r->noise, 0, 50);
}

/* Read a decimal of at most six digits before and six after the point. Return what follows it, or NULL. */
static const char *decimal(const char *text, double *value) {
    int64_t millionths = 0, unit = 1000000;
    int is_negative = *text == '-', digits = 0;
    for (text += is_negative; *text >= '0' && *text <= '9' && digits < 6; text++, digits++)
        millionths = millionths * 10 + (*text - '0') * unit;
    if (digits && *text == '.')
        for (text++; *text >= '0' && *text <= '9' && unit > 1; text++) millionths += (*text - '0') * (unit /= 10);
    *value = (double)(is_negative ? -millionths : millionths) / 1000000;
    return digits ? text : NULL;
}

static int parsed(const char *text, Recipe *recipe) {
    double *values[] = {&recipe->rotation,   &recipe->zoom,     &recipe->shift_x,    &recipe->shift_y, &recipe->mirror,
                        &recipe->brightness, &recipe->contrast, &recipe->saturation, &recipe->noise};
    for (int n = 0; n < 9; n++) {
        text = decimal(text, values[n]);
        if (!text || *text++ != (n < 8 ? ':' : 0)) return 0;
    }
    return is_sound(recipe);
}

static uint32_t seed_of(const char *text) { /* FNV-1a */
    uint32_t state = 2166136261U;
    for (; *text; text++) state = (state ^ (uint8_t)*text) * 16777619U;
    return mixed(state);
}

/* Return a side's length, or 0. */
static int side_of(const char *text) {
    double side;
    const char *rest = decimal(text, &side);
    return rest && !*rest && side >= 2 && side <= SIDE_MAX && (int)side % 2 == 0 && (int)side == side ? (int)side : 0;
}

static int is_same(const char *one, const char *other) {
    for (; *one && *one == *other; one++) other++;
    return *one == *other;
}

static PlanePath *path_of(const char *name) {
    if (is_same(name, "scalar")) return plane_scalar;
    if (is_same(name, "base")) return plane_base;
    return is_same(name, "wide") && has_wide() ? plane_wide : NULL;
}

/* Return the number of frames of which one is compared, or 0. */
static uint32_t step_of(const char *text) {
    double step;
    const char *rest = decimal(text, &step);
    return rest && !*rest && step >= 1 && step == (uint32_t)step ? (uint32_t)step : 0;
}

/* Take `compared STEP OTHER...`. Return whether it is sound. */
static int take_others(int argc, char **argv, Comparison *all) {
    if (argc < 2 || argc - 2 > OTHERS_MAX || !(all->step = step_of(argv[1]))) return 0;
    for (int n = 2; n < argc; n++) {
        Recipe recipe;
        if (!parsed(argv[n], &recipe)) return 0;
        add_to(all, &recipe);
    }
    return 1;
}

static int draw_all(int argc, char **argv) {
    static Variation variations[RECIPES_MAX];
    static Comparison all;
    PlanePath *path = has_wide() ? plane_wide : plane_base;
    if (argc > 1 && path_of(argv[1])) path = path_of(argv[1]), argc--, argv++;
    int width = argc > 1 ? side_of(argv[1]) : 0, height = argc > 2 ? side_of(argv[2]) : 0, count = 0;
    while (3 + count < argc && !is_same(argv[3 + count], "compared")) count++;
    if (!path || !width || !height || count < 1 || count > RECIPES_MAX)
        return complain("WIDTH HEIGHT RECIPE... are needed");
    ignore_closed_pipes();
    enlarge(INPUT);
    all.width = width >= height ? SMALL_LONG : SMALL_SHORT, all.height = width >= height ? SMALL_SHORT : SMALL_LONG;
    for (int n = 0; n < count; n++) {
        Recipe recipe;
        if (!parsed(argv[3 + n], &recipe)) return complain("a recipe is wrong");
        prepare(&variations[n], &recipe, seed_of(argv[3 + n]), width, height);
        add_to(&all, &recipe);
        enlarge(FIRST_OUTPUT + n);
    }
    all.written = count;
    if (3 + count < argc && !take_others(argc - 3 - count, argv + 3 + count, &all))
        return complain("compared STEP OTHER... are needed");
    return run(variations, count, width, height, path, &all);
}

/* `stack` is what the system puts there: the count of the arguments, then pointers to them. */
__attribute__((used, noreturn)) void begin(long *stack) {
    for (long code = draw_all((int)stack[0], (char **)(stack + 1));;) call(EXIT_GROUP, code, 0, 0, 0, 0, 0);
}
