/* Checks of a test program: the first that fails ends it with status 1 and a line that says which. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHECK(condition)                                                                           \
  do                                                                                               \
    {                                                                                              \
      if (!(condition))                                                                            \
        {                                                                                          \
          fprintf (stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                         \
          exit (1);                                                                                \
        }                                                                                          \
    }                                                                                              \
  while (0)

/* A call that returns this error. */
#define RETURNS(error, call)                                                                       \
  do                                                                                               \
    {                                                                                              \
      int returned = (call);                                                                       \
      if (returned != (error))                                                                     \
        {                                                                                          \
          fprintf (stderr, "%s:%d: %s is %d (%s)\n", __FILE__, __LINE__, #call, returned,          \
                   memif_strerror (returned));                                                     \
          exit (1);                                                                                \
        }                                                                                          \
    }                                                                                              \
  while (0)

/* Waits for a condition, and runs a statement meanwhile, for 20 s at most. */
#define UNTIL(condition, statement)                                                                \
  do                                                                                               \
    {                                                                                              \
      time_t until_end = time (NULL) + 20;                                                         \
      while (!(condition))                                                                         \
        {                                                                                          \
          CHECK (time (NULL) < until_end && #condition);                                           \
          statement;                                                                               \
        }                                                                                          \
    }                                                                                              \
  while (0)

#endif
